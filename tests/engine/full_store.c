/*
 * A store that is full, of which much is outgrown by what the guest has written since: `out` makes room
 * and goes on, as long as what is live fits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"

/* Random pages: each takes a page and a tag of the store. */
#define PAGES 7200u
#define LIMIT (31ull << 20)

struct vm {
	struct guest_memory *memory;
	struct swap *swap;
};

static void open_vm(struct vm *vm, struct store_config store)
{
	const struct swap_config config = {.store = store};
	struct error err;

	vm->memory = create_memory(PAGES);
	if (swap_create(vm->memory, &config, NULL, &vm->swap, &err))
		fail_msg("%s", err.text);
}

static void close_vm(struct vm *vm)
{
	swap_destroy(vm->swap);
	guest_memory_destroy(vm->memory);
}

static void run(struct vm *vm, enum swap_operation operation)
{
	struct error err = {.text = ""};
	int result = swap_start(vm->swap, operation, &err);

	if (!result)
		result = swap_wait(vm->swap, &err);
	if (result)
		fail_msg("%s: %s", swap_operation_name(operation), err.text);
}

static uint8_t *page_at(struct vm *vm, size_t page)
{
	return guest_memory_guest_view(vm->memory) + page * GUEST_PAGE_SIZE;
}

static void swap_out_again_and_again(struct store_config store)
{
	struct vm vm;
	struct swap_status status;

	open_vm(&vm, store);
	for (size_t i = 0; i < PAGES; i++)
		fill_page(page_at(&vm, i), (uint32_t)i);
	run(&vm, SWAP_OP_ENABLE);
	run(&vm, SWAP_OP_OUT);
	for (uint32_t round = 1; round <= 3; round++) {
		for (size_t i = 0; i < PAGES; i += 2)
			fill_page(page_at(&vm, i), (uint32_t)i + round * PAGES);

		run(&vm, SWAP_OP_ENABLE);
		run(&vm, SWAP_OP_OUT);

		swap_get_status(vm.swap, &status);
		assert_int_equal(status.pages_swapped, PAGES);
		assert_true(status.store.file_bytes + status.store.pool_bytes <= LIMIT);
	}
	for (size_t i = 0; i < PAGES; i++)
		assert_true(page_holds(page_at(&vm, i), (uint32_t)i + (i % 2 ? 0 : 3 * PAGES)));
	close_vm(&vm);
}

static void a_file_at_its_limit_is_compacted(void **state)
{
	struct store_config store = test_store();
	(void)state;

	store.limit_bytes = LIMIT;
	swap_out_again_and_again(store);
}

static void a_full_pool_with_nothing_behind_it_is_compacted(void **state)
{
	(void)state;

	swap_out_again_and_again((struct store_config){.pool_bytes = LIMIT});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_at_its_limit_is_compacted),
		cmocka_unit_test(a_full_pool_with_nothing_behind_it_is_compacted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
