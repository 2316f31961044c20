/* The map of guest memory: what it says of pages in every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/engine/vm.h"

#define PAGES 2048u
#define CELLS 16u

/* Where the pages of the test begin: bytes that differ, one value repeated, never touched. */
#define REPEATED  (PAGES / 2)
#define UNTOUCHED (PAGES / 4 * 3)

static void open_vm(struct vm *vm, uint64_t pool_bytes)
{
	vm_create(vm, PAGES,
		  (struct store_config){.path = pool_bytes ? NULL : test_store_dir(),
					.pool_bytes = pool_bytes});
	vm_fill(vm, 0, REPEATED);
	memset(vm_page(vm, REPEATED), 7, (UNTOUCHED - REPEATED) * GUEST_PAGE_SIZE);
}

static int create(void **state)
{
	static struct vm vm;

	open_vm(&vm, 0);
	*state = &vm;
	return 0;
}

static int destroy(void **state)
{
	vm_destroy(*state);
	return 0;
}

static uint64_t pages_in(struct vm *vm, enum swap_place place)
{
	struct swap_map_cell cells[CELLS];
	uint64_t each = swap_map_cell_pages(vm->swap, CELLS);
	uint64_t sums[SWAP_PLACES] = {0};
	uint64_t all = 0;
	bool exact;

	assert_int_equal(swap_get_map(vm->swap, each, CELLS, cells, &exact), CELLS);
	assert_true(exact);
	for (size_t i = 0; i < CELLS; i++)
		for (int at = 0; at < SWAP_PLACES; at++)
			sums[at] += cells[i].pages[at];
	for (int at = 0; at < SWAP_PLACES; at++)
		all += sums[at];
	assert_int_equal(all, PAGES);
	return sums[place];
}

static void while_swap_is_disabled_pages_are_resident_or_empty(void **state)
{
	assert_int_equal(pages_in(*state, SWAP_PLACE_RESIDENT), UNTOUCHED);
	assert_int_equal(pages_in(*state, SWAP_PLACE_EMPTY), PAGES - UNTOUCHED);
}

static void staged_pages_are_shown_where_they_are(void **state)
{
	struct vm *vm = *state;
	struct swap_map_cell cells[CELLS];
	bool exact;

	vm_operate(vm, SWAP_OP_ENABLE);
	swap_get_map(vm->swap, PAGES / CELLS, CELLS, cells, &exact);

	assert_int_equal(cells[0].pages[SWAP_PLACE_STAGED], PAGES / CELLS);
	assert_int_equal(cells[CELLS - 1].pages[SWAP_PLACE_EMPTY], PAGES / CELLS);
	assert_int_equal(pages_in(vm, SWAP_PLACE_STAGED), UNTOUCHED);
}

static void swapped_pages_are_on_disk_or_take_no_space(void **state)
{
	struct vm *vm = *state;

	vm_operate(vm, SWAP_OP_ENABLE);
	vm_operate(vm, SWAP_OP_OUT);

	assert_int_equal(pages_in(vm, SWAP_PLACE_DISK), REPEATED);
	assert_int_equal(pages_in(vm, SWAP_PLACE_FILLED), UNTOUCHED - REPEATED);
	assert_int_equal(pages_in(vm, SWAP_PLACE_POOL), 0);
}

static void pages_of_the_pool_are_told_from_those_on_disk(void **state)
{
	struct vm vm;

	(void)state;
	open_vm(&vm, 64u << 20);
	vm_operate(&vm, SWAP_OP_ENABLE);
	vm_operate(&vm, SWAP_OP_OUT);

	assert_int_equal(pages_in(&vm, SWAP_PLACE_POOL), REPEATED);
	assert_int_equal(pages_in(&vm, SWAP_PLACE_DISK), 0);
	vm_destroy(&vm);
}

static void a_last_cell_may_have_fewer_pages(void **state)
{
	struct vm *vm = *state;
	struct swap_map_cell cells[7];
	uint64_t each = swap_map_cell_pages(vm->swap, 7);
	uint64_t sum = 0;
	bool exact;

	assert_int_equal(swap_get_map(vm->swap, each, 7, cells, &exact), 7);
	for (size_t i = 0; i < 7; i++)
		sum += cells[i].pages[SWAP_PLACE_RESIDENT] + cells[i].pages[SWAP_PLACE_EMPTY];
	assert_int_equal(sum, PAGES);
	assert_true(cells[6].pages[SWAP_PLACE_EMPTY] < each);
}

static void counting_whole_chunks_divides_what_is_swapped_by_samples(void **state)
{
	struct engine engine;
	struct swap_map_cell exact, rough;

	(void)state;
	engine_create(&engine, PAGES, true);
	for (size_t page = 0; page < PAGES; page++)
		fill_page(page_of(&engine, page), (uint32_t)page);
	engine_swap_out(&engine);
	fill_page(page_of(&engine, 5), 5);

	pager_map_cell(engine.pager, 0, PAGES, true, &exact);
	pager_map_cell(engine.pager, 0, PAGES, false, &rough);

	assert_int_equal(rough.pages[SWAP_PLACE_RESIDENT], exact.pages[SWAP_PLACE_RESIDENT]);
	assert_int_equal(rough.pages[SWAP_PLACE_DISK], exact.pages[SWAP_PLACE_DISK]);
	assert_true(exact.pages[SWAP_PLACE_DISK] > 0);
	engine_destroy(&engine);
}

#define with_vm(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_vm(while_swap_is_disabled_pages_are_resident_or_empty),
		with_vm(staged_pages_are_shown_where_they_are),
		with_vm(swapped_pages_are_on_disk_or_take_no_space),
		cmocka_unit_test(pages_of_the_pool_are_told_from_those_on_disk),
		with_vm(a_last_cell_may_have_fewer_pages),
		cmocka_unit_test(counting_whole_chunks_divides_what_is_swapped_by_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
