/* Every arrow of the page state diagram, on a real userfaultfd, with a thread of the test as the
 * guest. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"

#define PAGES 64u

static uint64_t allocated(const struct engine *engine)
{
	uint64_t bytes;

	assert_int_equal(guest_memory_allocated(engine->memory, &bytes), 0);
	return bytes;
}

static int create(void **state)
{
	static struct engine engine;

	engine_create(&engine, PAGES, true);
	*state = &engine;
	return 0;
}

static int destroy(void **state)
{
	engine_destroy(*state);
	return 0;
}

static void touching_an_empty_page_gives_zeros(void **state)
{
	struct engine *engine = *state;

	uint8_t value = page_of(engine, 3)[17];

	assert_int_equal(value, 0);
	assert_int_equal(pager_page_state(engine->pager, 3), PAGE_RESIDENT);
	assert_int_equal(counters_of(engine).zeroed, 1);
}

static void a_fault_at_any_offset_of_a_page_is_answered(void **state)
{
	struct engine *engine = *state;
	static const size_t offsets[] = {0, 1, 8, 2047, 4095};

	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(answer_fault(engine, (uint64_t)page_of(engine, i) + offsets[i]),
				 0);
		assert_int_equal(pager_page_state(engine->pager, i), PAGE_RESIDENT);
	}
	assert_int_equal(counters_of(engine).zeroed, 5);
}

static void a_fault_outside_guest_memory_is_an_error(void **state)
{
	struct engine *engine = *state;

	assert_int_equal(answer_fault(engine, (uint64_t)engine->guest - 1), -EFAULT);
	assert_int_equal(answer_fault(engine, (uint64_t)page_of(engine, PAGES)), -EFAULT);
	assert_int_equal(answer_fault(engine, 0), -EFAULT);
	assert_int_equal(answer_fault(engine, UINT64_MAX), -EFAULT);
}

static void a_remove_outside_guest_memory_is_an_error(void **state)
{
	struct engine *engine = *state;
	uint64_t start = (uint64_t)engine->guest, end = (uint64_t)page_of(engine, PAGES);

	assert_int_equal(pager_remove(engine->pager, end, end + 4096), -EFAULT);
	assert_int_equal(pager_remove(engine->pager, start, end + 4096), -EFAULT);
	assert_int_equal(pager_remove(engine->pager, start - 4096, start), -EFAULT);
	assert_int_equal(pager_remove(engine->pager, end, start), -EFAULT);
}

static void staging_moves_resident_pages_and_copies_nothing(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 5), 5);
	uint64_t before = allocated(engine);

	engine_stage(engine);

	assert_int_equal(pager_page_state(engine->pager, 5), PAGE_STAGED);
	assert_int_equal(pager_page_state(engine->pager, 6), PAGE_EMPTY);
	assert_int_equal(allocated(engine), before);
	assert_int_equal(stored_entries(engine), 0);
	assert_int_equal(counters_of(engine).removed, 0);
}

static void touching_a_staged_page_continues_without_a_copy(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 5), 5);
	engine_stage(engine);

	bool held = page_holds(page_of(engine, 5), 5);

	assert_true(held);
	assert_int_equal(pager_page_state(engine->pager, 5), PAGE_RESIDENT);
	assert_int_equal(counters_of(engine).continued, 1);
	assert_int_equal(counters_of(engine).copied, 0);
}

static void pages_populated_before_the_pager_existed_are_staged(void **state)
{
	struct engine *engine = *state;
	/* Through the memfd: the pager does not hear of it. */
	fill_page(guest_memory_pager_view(engine->memory) + 9 * GUEST_PAGE_SIZE, 9);
	assert_int_equal(pager_page_state(engine->pager, 9), PAGE_EMPTY);

	engine_swap_out(engine);

	assert_int_equal(pager_page_state(engine->pager, 9), PAGE_SWAPPED);
	assert_true(page_holds(page_of(engine, 9), 9));
}

static void a_populated_page_that_the_map_calls_empty_keeps_its_data_when_touched(void **state)
{
	struct engine *engine = *state;
	fill_page(guest_memory_pager_view(engine->memory) + 9 * GUEST_PAGE_SIZE, 9);

	bool held = page_holds(page_of(engine, 9), 9);

	assert_true(held);
	assert_int_equal(pager_page_state(engine->pager, 9), PAGE_RESIDENT);
}

static void writing_out_takes_pages_out_of_the_memfd(void **state)
{
	struct engine *engine = *state;
	for (size_t i = 0; i < 10; i++)
		fill_page(page_of(engine, i), (uint32_t)i);

	engine_swap_out(engine);

	assert_int_equal(allocated(engine), 0);
	assert_int_equal(stored_entries(engine), 10);
	assert_int_equal(counters_of(engine).stored, 10);
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(pager_page_state(engine->pager, i), PAGE_SWAPPED);
}

static void touching_a_swapped_page_copies_it_from_the_store(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 7), 7);
	engine_swap_out(engine);

	bool held = page_holds(page_of(engine, 7), 7);

	assert_true(held);
	assert_int_equal(pager_page_state(engine->pager, 7), PAGE_RESIDENT);
	assert_int_equal(counters_of(engine).copied, 1);
}

/* It would be read on the thread that every other fault waits for. */
static void a_page_that_needs_no_disk_brings_none_along_from_there(void **state)
{
	struct engine *engine = *state;
	static const size_t in_order[] = {0, 1, 3, 7}; /* each brings twice as many as the last */
	struct store_usage before, after;
	enum pager_answer answer;
	memset(page_of(engine, 0), 0x11, 16 * GUEST_PAGE_SIZE);
	for (size_t i = 16; i < 32; i++)
		fill_page(page_of(engine, i), (uint32_t)i);
	engine_swap_out(engine);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(answer_fault(engine, (uint64_t)page_of(engine, in_order[i])), 0);
	assert_int_equal(pager_page_state(engine->pager, 14), PAGE_RESIDENT);
	store_get_usage(engine->store, &before);

	assert_int_equal(pager_fault(engine->context, (uint64_t)page_of(engine, 15), &answer), 0);

	store_get_usage(engine->store, &after);
	assert_int_equal(answer, PAGER_ANSWER_POOL);
	assert_int_equal(after.read_bytes, before.read_bytes);
	assert_int_equal(pager_page_state(engine->pager, 15), PAGE_RESIDENT);
	assert_int_equal(pager_page_state(engine->pager, 16), PAGE_SWAPPED);
	assert_int_equal(page_of(engine, 15)[4095], 0x11);
	for (size_t i = 16; i < 32; i++)
		assert_true(page_holds(page_of(engine, i), (uint32_t)i));
}

static void a_zero_page_made_behind_the_pagers_back_does_not_win(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 7), 7);
	engine_swap_out(engine);
	/* Whoever looks at a hole of the memfd through a mapping populates it. */
	volatile uint8_t *alias = guest_memory_pager_view(engine->memory) + 7 * GUEST_PAGE_SIZE;
	assert_int_equal(*alias, 0);

	assert_true(page_holds(page_of(engine, 7), 7));

	engine_swap_out(engine);
	assert_int_equal(*alias, 0);
	assert_int_equal(run_job(engine, pager_swap_in, NULL), 0);
	assert_true(page_holds(page_of(engine, 7), 7));
}

static void writing_out_a_zero_page_takes_no_space(void **state)
{
	struct engine *engine = *state;
	memset(page_of(engine, 2), 0, GUEST_PAGE_SIZE);

	engine_swap_out(engine);

	assert_int_equal(pager_page_state(engine->pager, 2), PAGE_EMPTY);
	assert_int_equal(stored_entries(engine), 0);
	assert_int_equal(allocated(engine), 0);
}

static void trim_drops_zero_pages(void **state)
{
	struct engine *engine = *state;
	memset(page_of(engine, 2), 0, GUEST_PAGE_SIZE);
	fill_page(page_of(engine, 3), 3);
	/* Zero but for its last byte. */
	page_of(engine, 4)[GUEST_PAGE_SIZE - 1] = 1;
	engine_stage(engine);
	uint64_t moved;

	assert_int_equal(run_job(engine, pager_trim, &moved), 0);

	assert_int_equal(moved, 1);
	assert_int_equal(pager_page_state(engine->pager, 2), PAGE_EMPTY);
	assert_int_equal(pager_page_state(engine->pager, 3), PAGE_STAGED);
	assert_int_equal(pager_page_state(engine->pager, 4), PAGE_STAGED);
	assert_int_equal(counters_of(engine).trimmed_zero, 1);
	assert_int_equal(page_of(engine, 4)[GUEST_PAGE_SIZE - 1], 1);
}

static void trim_drops_pages_that_equal_their_stored_copy(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 8), 8);
	engine_swap_out(engine);
	assert_true(page_holds(page_of(engine, 8), 8));
	engine_stage(engine);

	assert_int_equal(run_job(engine, pager_trim, NULL), 0);

	assert_int_equal(pager_page_state(engine->pager, 8), PAGE_SWAPPED);
	assert_int_equal(counters_of(engine).trimmed_clean, 1);
	assert_int_equal(counters_of(engine).stored, 1);
	assert_true(page_holds(page_of(engine, 8), 8));
}

static void trim_keeps_a_changed_page_and_frees_its_stored_copy(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 8), 8);
	engine_swap_out(engine);
	fill_page(page_of(engine, 8), 88);
	engine_stage(engine);

	assert_int_equal(run_job(engine, pager_trim, NULL), 0);

	assert_int_equal(pager_page_state(engine->pager, 8), PAGE_STAGED);
	assert_int_equal(stored_entries(engine), 0);
	assert_true(page_holds(page_of(engine, 8), 88));
}

static void writing_out_a_changed_page_replaces_its_stored_copy(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 8), 8);
	engine_swap_out(engine);
	fill_page(page_of(engine, 8), 88);

	engine_swap_out(engine);

	assert_int_equal(stored_entries(engine), 1);
	assert_true(page_holds(page_of(engine, 8), 88));
}

static void swap_in_brings_staged_and_swapped_pages_back(void **state)
{
	struct engine *engine = *state;
	for (size_t i = 0; i < 20; i++)
		fill_page(page_of(engine, i), (uint32_t)i);
	engine_swap_out(engine);
	for (size_t i = 20; i < 40; i++)
		fill_page(page_of(engine, i), (uint32_t)i);
	engine_stage(engine);

	assert_int_equal(run_job(engine, pager_swap_in, NULL), 0);

	for (size_t i = 0; i < 40; i++)
		assert_int_equal(pager_page_state(engine->pager, i), PAGE_RESIDENT);
	assert_int_equal(counters_of(engine).swapped_in, 20);
	struct pager_counters before = counters_of(engine);
	for (size_t i = 0; i < 40; i++)
		assert_true(page_holds(page_of(engine, i), (uint32_t)i));
	struct pager_counters after = counters_of(engine);
	assert_int_equal(after.copied + after.continued, before.copied + before.continued);
}

/* One page in each state, then the guest discards it. */
static void discard_empties_a_page_in_state(struct engine *engine, enum page_state wanted)
{
	fill_page(page_of(engine, 1), 1);
	if (wanted == PAGE_STAGED)
		engine_stage(engine);
	else if (wanted == PAGE_SWAPPED)
		engine_swap_out(engine);
	assert_int_equal(pager_page_state(engine->pager, 1), wanted);

	assert_int_equal(guest_memory_discard(engine->memory, GUEST_PAGE_SIZE, GUEST_PAGE_SIZE), 0);

	await(pager_page_state(engine->pager, 1) == PAGE_EMPTY);
	assert_int_equal(allocated(engine), 0);
	assert_int_equal(stored_entries(engine), 0);
	while (store_reclaim(engine->store))
		;
	assert_int_equal(stored_file_bytes(engine), 0);
	assert_int_equal(counters_of(engine).removed, 1);
	assert_int_equal(page_of(engine, 1)[0], 0);
}

static void discard_of_a_resident_page_frees_it(void **state)
{
	discard_empties_a_page_in_state(*state, PAGE_RESIDENT);
}

static void discard_of_a_staged_page_frees_it(void **state)
{
	discard_empties_a_page_in_state(*state, PAGE_STAGED);
}

static void discard_of_a_swapped_page_frees_its_store_entry(void **state)
{
	discard_empties_a_page_in_state(*state, PAGE_SWAPPED);
}

static void discard_of_a_clean_resident_page_frees_its_stored_copy(void **state)
{
	struct engine *engine = *state;
	fill_page(page_of(engine, 1), 1);
	engine_swap_out(engine);
	assert_true(page_holds(page_of(engine, 1), 1));
	assert_int_equal(stored_entries(engine), 1);

	assert_int_equal(guest_memory_discard(engine->memory, GUEST_PAGE_SIZE, GUEST_PAGE_SIZE), 0);

	await(stored_entries(engine) == 0);
	assert_int_equal(page_of(engine, 1)[0], 0);
}

static void threads_on_one_job_share_its_pages(void **state)
{
	struct engine *engine = *state;
	struct pager_context *other;
	struct pager_job job = {0};
	for (size_t i = 0; i < PAGES; i++)
		fill_page(page_of(engine, i), (uint32_t)i);
	engine_stage(engine);
	assert_int_equal(pager_context_create(engine->pager, &other), 0);

	assert_int_equal(pager_write_out(engine->context, &job), 0);
	assert_int_equal(pager_write_out(other, &job), 0);

	assert_int_equal(job.moved, PAGES);
	assert_int_equal(job.done, PAGES);
	pager_context_destroy(other);
}

static void a_stopped_job_takes_no_more_pages(void **state)
{
	struct engine *engine = *state;
	struct pager_job job = {.stop = true};
	fill_page(page_of(engine, 0), 1);
	engine_stage(engine);

	assert_int_equal(pager_write_out(engine->context, &job), -ECANCELED);

	assert_int_equal(job.moved, 0);
	assert_int_equal(pager_page_state(engine->pager, 0), PAGE_STAGED);
}

static void peeking_reads_every_state_and_changes_none(void **state)
{
	struct engine *engine = *state;
	uint8_t page[GUEST_PAGE_SIZE];
	fill_page(page_of(engine, 1), 1);
	engine_swap_out(engine);
	fill_page(page_of(engine, 2), 2);
	uint64_t before = allocated(engine);

	assert_int_equal(pager_peek(engine->pager, 1 * GUEST_PAGE_SIZE, page, sizeof(page)), 0);
	assert_true(page_holds(page, 1));
	assert_int_equal(pager_peek(engine->pager, 2 * GUEST_PAGE_SIZE, page, sizeof(page)), 0);
	assert_true(page_holds(page, 2));
	assert_int_equal(pager_peek(engine->pager, 3 * GUEST_PAGE_SIZE + 100, page, 8), 0);
	assert_memory_equal(page, "\0\0\0\0\0\0\0", 8);

	assert_int_equal(pager_page_state(engine->pager, 1), PAGE_SWAPPED);
	assert_int_equal(pager_page_state(engine->pager, 3), PAGE_EMPTY);
	assert_int_equal(allocated(engine), before);
	assert_int_equal(pager_peek(engine->pager, 4090, page, 8), -EINVAL);
	assert_int_equal(pager_peek(engine->pager, PAGES * GUEST_PAGE_SIZE, page, 1), -EINVAL);
}

static void state_counts_sum_up_to_all_pages(void **state)
{
	struct engine *engine = *state;
	uint64_t counts[PAGE_STATES];
	for (size_t i = 0; i < 10; i++)
		fill_page(page_of(engine, i), (uint32_t)i);
	engine_swap_out(engine);
	page_of(engine, 0)[0] = 1;
	fill_page(page_of(engine, 20), 20);
	/* Looking at a page takes its lock: the monitor is done with it then. */
	assert_int_equal(pager_page_state(engine->pager, 20), PAGE_RESIDENT);

	pager_get_counts(engine->pager, counts);

	assert_int_equal(counts[PAGE_SWAPPED], 9);
	assert_int_equal(counts[PAGE_RESIDENT], 2);
	assert_int_equal(counts[PAGE_EMPTY], PAGES - 11);
	assert_int_equal(counts[PAGE_STAGED] + counts[PAGE_WRITING], 0);
}

static void a_child_process_never_shares_the_guest_view(void **state)
{
	struct engine *engine = *state;
	int status;
	page_of(engine, 0)[0] = 42;

	pid_t child = fork();
	if (child == 0) {
		unsigned char residency;

		/* mincore(2): ENOMEM says that nothing is mapped there. */
		_exit(mincore(engine->guest, GUEST_PAGE_SIZE, &residency) == -1 && errno == ENOMEM
			      ? 0
			      : 1);
	}
	waitpid(child, &status, 0);

	assert_int_equal(WEXITSTATUS(status), 0);
}

static void bad_regions_are_refused(void **state)
{
	struct engine *engine = *state;
	struct pager *pager;
	static const struct {
		struct pager_region regions[2];
		size_t count;
	} bad[] = {
		{{{0, 0}}, 1},                   /* empty */
		{{{0, 0}}, 0},                   /* none */
		{{{100, 4096}}, 1},              /* unaligned start */
		{{{0, 5000}}, 1},                /* unaligned length */
		{{{0, 8192}, {4096, 4096}}, 2},  /* overlapping */
		{{{4096, 4096}, {0, 8192}}, 2},  /* overlapping, other order */
		{{{0, (PAGES + 1) * 4096}}, 1},  /* longer than the view */
		{{{1ull << 63, 1ull << 63}}, 1}, /* wraps */
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(pager_create(engine->memory, engine->uffd, engine->store,
					      bad[i].regions, bad[i].count, &pager),
				 -EINVAL);
}

static void only_the_pages_of_its_regions_are_the_pagers(void **state)
{
	struct engine *engine = *state;
	const struct pager_region regions[] = {{8 * 4096, 4096}, {2 * 4096, 2 * 4096}};
	struct pager_context *context;
	enum pager_answer answer;
	struct pager *pager;
	assert_int_equal(
		pager_create(engine->memory, engine->uffd, engine->store, regions, 2, &pager), 0);
	assert_int_equal(pager_context_create(pager, &context), 0);

	assert_int_equal(pager_fault(context, (uint64_t)page_of(engine, 1), &answer), -EFAULT);
	assert_int_equal(pager_fault(context, (uint64_t)page_of(engine, 2), &answer), 0);
	assert_int_equal(pager_fault(context, (uint64_t)page_of(engine, 3) + 4095, &answer), 0);
	assert_int_equal(pager_fault(context, (uint64_t)page_of(engine, 4), &answer), -EFAULT);
	assert_int_equal(pager_fault(context, (uint64_t)page_of(engine, 8), &answer), 0);
	assert_int_equal(
		pager_remove(pager, (uint64_t)page_of(engine, 3), (uint64_t)page_of(engine, 5)),
		-EFAULT);
	pager_context_destroy(context);
	pager_destroy(pager);
}

#define with_engine(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_engine(touching_an_empty_page_gives_zeros),
		with_engine(a_fault_at_any_offset_of_a_page_is_answered),
		with_engine(a_fault_outside_guest_memory_is_an_error),
		with_engine(a_remove_outside_guest_memory_is_an_error),
		with_engine(staging_moves_resident_pages_and_copies_nothing),
		with_engine(touching_a_staged_page_continues_without_a_copy),
		with_engine(pages_populated_before_the_pager_existed_are_staged),
		with_engine(a_populated_page_that_the_map_calls_empty_keeps_its_data_when_touched),
		with_engine(writing_out_takes_pages_out_of_the_memfd),
		with_engine(touching_a_swapped_page_copies_it_from_the_store),
		with_engine(a_page_that_needs_no_disk_brings_none_along_from_there),
		with_engine(a_zero_page_made_behind_the_pagers_back_does_not_win),
		with_engine(writing_out_a_zero_page_takes_no_space),
		with_engine(trim_drops_zero_pages),
		with_engine(trim_drops_pages_that_equal_their_stored_copy),
		with_engine(trim_keeps_a_changed_page_and_frees_its_stored_copy),
		with_engine(writing_out_a_changed_page_replaces_its_stored_copy),
		with_engine(swap_in_brings_staged_and_swapped_pages_back),
		with_engine(discard_of_a_resident_page_frees_it),
		with_engine(discard_of_a_staged_page_frees_it),
		with_engine(discard_of_a_swapped_page_frees_its_store_entry),
		with_engine(discard_of_a_clean_resident_page_frees_its_stored_copy),
		with_engine(threads_on_one_job_share_its_pages),
		with_engine(a_stopped_job_takes_no_more_pages),
		with_engine(peeking_reads_every_state_and_changes_none),
		with_engine(state_counts_sum_up_to_all_pages),
		with_engine(a_child_process_never_shares_the_guest_view),
		with_engine(bad_regions_are_refused),
		with_engine(only_the_pages_of_its_regions_are_the_pagers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
