/*
 * A store that is full, of which much is outgrown by what the guest has written since: `out` makes room
 * and goes on, as long as what is live fits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/engine/vm.h"

/* Random pages: each takes a page and a tag of the store. */
#define PAGES 7200u
#define LIMIT (31ull << 20)

static void swap_out_again_and_again(struct store_config store)
{
	struct vm vm;
	struct swap_status status;

	vm_create(&vm, PAGES, store);
	vm_fill(&vm, 0, PAGES);
	vm_operate(&vm, SWAP_OP_ENABLE);
	vm_operate(&vm, SWAP_OP_OUT);
	for (uint32_t round = 1; round <= 3; round++) {
		for (size_t i = 0; i < PAGES; i += 2)
			fill_page(vm_page(&vm, i), (uint32_t)i + round * PAGES);

		vm_operate(&vm, SWAP_OP_ENABLE);
		vm_operate(&vm, SWAP_OP_OUT);

		status = vm_status(&vm);
		assert_int_equal(status.pages_swapped, PAGES);
		assert_true(status.store.file_bytes + status.store.pool_bytes <= LIMIT);
	}
	for (size_t i = 0; i < PAGES; i++)
		assert_true(page_holds(vm_page(&vm, i), (uint32_t)i + (i % 2 ? 0 : 3 * PAGES)));
	vm_destroy(&vm);
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
