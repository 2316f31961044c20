/*
 * What happens when two things touch one page at the same moment. The store's functions are
 * wrapped by the linker (--wrap), so that a test can act exactly while a page is being written or
 * read.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"
#include "tests/engine/store_wrap.h"

#define PAGES 64u

static struct engine engine;
static void (*_Atomic during_drop)(void);
static void (*_Atomic during_append)(void);
static void (*_Atomic during_read)(void);

static void call(void (*_Atomic *hook)(void))
{
	void (*function)(void) = atomic_exchange(hook, NULL);

	if (function)
		function();
}

int __wrap_store_append(struct store_writer *writer, const void *page, store_location *location)
{
	call(&during_append);
	return __real_store_append(writer, page, location);
}

int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[])
{
	int result = __real_store_read(reader, locations, count, pages);

	call(&during_read);
	return result;
}

int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[])
{
	int result = __real_store_read_finish(reader, read, pages);

	call(&during_read);
	return result;
}

void __wrap_store_drop(struct store *store, store_location location)
{
	__real_store_drop(store, location);
	call(&during_drop);
}

static void reset_hooks(void)
{
	during_drop = NULL;
	during_append = NULL;
	during_read = NULL;
}

static int create_with_monitor(void **state)
{
	(void)state;
	reset_hooks();
	engine_create(&engine, PAGES, true);
	return 0;
}

static int create_without_monitor(void **state)
{
	(void)state;
	reset_hooks();
	engine_create(&engine, PAGES, false);
	return 0;
}

static int destroy(void **state)
{
	(void)state;
	engine_destroy(&engine);
	return 0;
}

static uint64_t allocated(void)
{
	uint64_t bytes;

	assert_int_equal(guest_memory_allocated(engine.memory, &bytes), 0);
	return bytes;
}

/* Reads events until one of @kind comes, which it returns; others are a failure. */
static struct uffd_event next_event(enum uffd_event_kind kind)
{
	struct pollfd fd = {.fd = uffd_descriptor(engine.uffd), .events = POLLIN};
	struct uffd_event events[UFFD_EVENTS_MAX];
	size_t count = 0;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(uffd_read_events(engine.uffd, events, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(events[0].kind, kind);
	return events[0];
}

static void *discard_first_page(void *unused)
{
	guest_memory_discard(engine.memory, 0, GUEST_PAGE_SIZE);
	return unused;
}

/* ---- touches during a write ---- */

static void write_to_page_1(void)
{
	page_of(&engine, 1)[0] ^= 0xff;
}

static void a_touch_during_writing_cancels_the_write(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	uint8_t changed = page_of(&engine, 1)[0] ^ 0xff;
	during_append = write_to_page_1;

	engine_swap_out(&engine);

	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	assert_int_equal(pager_page_state(engine.pager, 1), PAGE_RESIDENT);
	assert_int_equal(pager_page_state(engine.pager, 2), PAGE_SWAPPED);
	assert_int_equal(counters_of(&engine).cancelled, 1);
	assert_int_equal(page_of(&engine, 1)[0], changed);
	page_of(&engine, 1)[0] ^= 0xff;
	for (size_t i = 0; i < 4; i++)
		assert_true(page_holds(page_of(&engine, i), (uint32_t)i));
	/* The cancelled page's slot is free again. */
	assert_int_equal(stored_entries(&engine), 3);
}

static void discard_page_1(void)
{
	guest_memory_discard(engine.memory, GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
}

static void a_discard_during_writing_cancels_the_write(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	during_append = discard_page_1;

	engine_swap_out(&engine);

	await(pager_page_state(engine.pager, 1) == PAGE_EMPTY);
	assert_int_equal(stored_entries(&engine), 3);
	assert_int_equal(page_of(&engine, 1)[0], 0);
	assert_true(page_holds(page_of(&engine, 2), 2));
}

/* ---- what happens to a page while it is read ---- */

static void discard_page_0(void)
{
	guest_memory_discard(engine.memory, 0, GUEST_PAGE_SIZE);
}

static void a_page_discarded_while_it_was_read_stays_discarded(void **state)
{
	(void)state;
	fill_page(page_of(&engine, 0), 3);
	engine_swap_out(&engine);
	during_read = discard_page_0;

	assert_int_equal(page_of(&engine, 0)[0] | page_of(&engine, 0)[4095], 0);

	assert_int_equal(stored_entries(&engine), 0);
}

static _Atomic bool rewritten;

static void rewrite_page_0(void)
{
	/* A whole cycle, while somebody else holds what was read before it. */
	assert_int_equal(answer_fault(&engine, (uint64_t)page_of(&engine, 0)), 0);
	fill_page(page_of(&engine, 0), 4);
	engine_swap_out(&engine);
	rewritten = true;
}

static void a_page_written_anew_while_it_was_read_is_read_again(void **state)
{
	(void)state;
	struct toucher toucher;
	fill_page(page_of(&engine, 0), 3);
	engine_swap_out(&engine);
	rewritten = false;
	during_read = rewrite_page_0;

	toucher_start(&toucher, page_of(&engine, 0));
	toucher_join(&toucher);
	await(rewritten);

	assert_true(page_holds(page_of(&engine, 0), 4));
}

/* ---- the order of events ---- */

static void two_faults_for_one_page_are_both_answered(void **state)
{
	(void)state;
	struct toucher first, second;

	toucher_start(&first, page_of(&engine, 0));
	struct uffd_event one = next_event(UFFD_FAULT_MISSING);
	toucher_start(&second, page_of(&engine, 0) + 100);
	struct uffd_event two = next_event(UFFD_FAULT_MISSING);
	assert_int_equal(answer_fault(&engine, one.start), 0);
	assert_int_equal(answer_fault(&engine, two.start), 0);

	toucher_join(&first);
	toucher_join(&second);
	assert_int_equal(counters_of(&engine).zeroed, 1);
	assert_int_equal(counters_of(&engine).redundant, 1);
}

static void a_fault_waits_while_a_remove_is_unread(void **state)
{
	(void)state;
	struct toucher toucher;
	pthread_t discarder;
	fill_page(guest_memory_pager_view(engine.memory), 5);
	toucher_start(&toucher, page_of(&engine, 0));
	struct uffd_event fault = next_event(UFFD_FAULT_MINOR);
	pthread_create(&discarder, NULL, discard_first_page, NULL);
	struct pollfd fd = {.fd = uffd_descriptor(engine.uffd), .events = POLLIN};
	assert_int_equal(poll(&fd, 1, 10000), 1);

	/* The kernel refuses to map anything as long as the event waits. */
	assert_int_equal(answer_fault(&engine, fault.start), -EAGAIN);
	assert_int_equal(counters_of(&engine).retried, 1);

	struct uffd_event removed = next_event(UFFD_REMOVED);
	assert_int_equal(pager_remove(engine.pager, removed.start, removed.end), 0);
	pthread_join(discarder, NULL);
	assert_int_equal(answer_fault(&engine, fault.start), 0);
	toucher_join(&toucher);
	assert_int_equal(toucher.value, 0);
}

static void a_fault_on_a_page_whose_remove_was_read_but_not_applied_gives_zeros(void **state)
{
	(void)state;
	struct toucher toucher;
	pthread_t discarder;
	fill_page(guest_memory_pager_view(engine.memory), 5);
	assert_int_equal(pager_stage(engine.pager, &(struct pager_job){0}), 0);
	pthread_create(&discarder, NULL, discard_first_page, NULL);
	struct uffd_event removed = next_event(UFFD_REMOVED);
	pthread_join(discarder, NULL); /* the page is gone, the map says STAGED */
	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_STAGED);

	toucher_start(&toucher, page_of(&engine, 0));
	struct uffd_event fault = next_event(UFFD_FAULT_MISSING);
	assert_int_equal(answer_fault(&engine, fault.start), 0);
	toucher_join(&toucher);
	assert_int_equal(toucher.value, 0);

	/* The late REMOVE costs nothing: what is written since stays. */
	fill_page(page_of(&engine, 0), 6);
	assert_int_equal(pager_remove(engine.pager, removed.start, removed.end), 0);
	assert_true(page_holds(page_of(&engine, 0), 6));
}

static void data_written_after_a_late_remove_survives_a_swap_cycle(void **state)
{
	(void)state;
	const uint64_t start = (uint64_t)page_of(&engine, 0);
	fill_page(page_of(&engine, 0), 6);
	/* Applied late: the map says EMPTY, the memfd holds data. */
	assert_int_equal(pager_remove(engine.pager, start, start + GUEST_PAGE_SIZE), 0);

	engine_swap_out(&engine);

	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	assert_true(page_holds(page_of(&engine, 0), 6));
}

/* ---- a discard whose event is read, and not yet applied to all its pages ---- */

#define MANY_PAGES 1024u

static _Atomic bool removal_waits, removal_may_go_on;

static void hold_removal(void)
{
	removal_waits = true;
	await(removal_may_go_on);
}

static int create_large(void **state)
{
	(void)state;
	reset_hooks();
	removal_waits = removal_may_go_on = false;
	engine_create(&engine, MANY_PAGES, true);
	return 0;
}

static _Atomic bool swap_in_done;

static void *swap_everything_in(void *unused)
{
	run_job(&engine, pager_swap_in, NULL);
	swap_in_done = true;
	return unused;
}

static void swap_in_brings_nothing_back_that_was_discarded(void **state)
{
	(void)state;
	pthread_t worker;
	for (size_t i = 0; i < MANY_PAGES; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	engine_swap_out(&engine);
	during_drop = hold_removal;
	swap_in_done = false;

	/* Returns when the event has been read; the monitor then sticks in the first page. */
	assert_int_equal(guest_memory_discard_all(engine.memory), 0);
	await(removal_waits);
	pthread_create(&worker, NULL, swap_everything_in, NULL);
	usleep(100000);
	assert_false(swap_in_done);
	removal_may_go_on = true;
	pthread_join(worker, NULL);

	assert_int_equal(allocated(), 0);
	assert_int_equal(stored_entries(&engine), 0);
	for (size_t i = 0; i < MANY_PAGES; i += 100)
		assert_int_equal(page_of(&engine, i)[0], 0);
}

static void *discard_all(void *unused)
{
	guest_memory_discard_all(engine.memory);
	return unused;
}

static void *zap_all(void *unused)
{
	pager_zap(engine.pager, &(struct pager_job){0});
	return unused;
}

static void a_discard_of_exactly_the_zapped_range_counts_once(void **state)
{
	(void)state;
	pthread_t zapper, discarder;
	fill_page(page_of(&engine, 0), 1);
	engine_swap_out(&engine);
	fill_page(page_of(&engine, 1), 2);

	pthread_create(&zapper, NULL, zap_all, NULL);
	pthread_create(&discarder, NULL, discard_all, NULL);
	pthread_join(zapper, NULL);
	pthread_join(discarder, NULL);

	await(pager_page_state(engine.pager, 0) == PAGE_EMPTY);
	await(pager_page_state(engine.pager, 1) == PAGE_EMPTY);
	assert_int_equal(page_of(&engine, 0)[0] | page_of(&engine, 1)[0], 0);
	assert_int_equal(stored_entries(&engine), 0);
}

static void a_zap_waits_for_a_discard_that_could_be_taken_for_it(void **state)
{
	(void)state;
	pthread_t zapper, discarder;
	fill_page(guest_memory_pager_view(engine.memory), 5);
	assert_int_equal(pager_stage(engine.pager, &(struct pager_job){0}), 0);

	pthread_create(&discarder, NULL, discard_all, NULL);
	struct pollfd fd = {.fd = uffd_descriptor(engine.uffd), .events = POLLIN};
	assert_int_equal(poll(&fd, 1, 10000), 1);
	pthread_create(&zapper, NULL, zap_all, NULL);
	usleep(100000);
	for (int i = 0; i < 2; i++) {
		uint64_t faults[UFFD_EVENTS_MAX];
		size_t fault_count, events;

		assert_int_equal(poll(&fd, 1, 10000), 1);
		assert_int_equal(pager_read_events(engine.pager, faults, &fault_count, &events), 0);
		assert_int_equal(events, 1);
		assert_int_equal(pager_page_state(engine.pager, 0), PAGE_EMPTY);
	}
	pthread_join(discarder, NULL);
	pthread_join(zapper, NULL);
}

static void a_zap_alone_discards_nothing(void **state)
{
	(void)state;
	fill_page(page_of(&engine, 0), 1);
	engine_swap_out(&engine);
	fill_page(page_of(&engine, 1), 2);
	uint64_t before = allocated();

	assert_int_equal(pager_zap(engine.pager, &(struct pager_job){0}), 0);

	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	assert_int_equal(allocated(), before);
	assert_true(page_holds(page_of(&engine, 0), 1));
	assert_true(page_holds(page_of(&engine, 1), 2));
	assert_int_equal(counters_of(&engine).removed, 0);
}

#define live(test)   cmocka_unit_test_setup_teardown(test, create_with_monitor, destroy)
#define manual(test) cmocka_unit_test_setup_teardown(test, create_without_monitor, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		live(a_touch_during_writing_cancels_the_write),
		live(a_discard_during_writing_cancels_the_write),
		live(a_page_discarded_while_it_was_read_stays_discarded),
		live(a_page_written_anew_while_it_was_read_is_read_again),
		manual(two_faults_for_one_page_are_both_answered),
		manual(a_fault_waits_while_a_remove_is_unread),
		manual(a_fault_on_a_page_whose_remove_was_read_but_not_applied_gives_zeros),
		live(data_written_after_a_late_remove_survives_a_swap_cycle),
		live(a_discard_of_exactly_the_zapped_range_counts_once),
		manual(a_zap_waits_for_a_discard_that_could_be_taken_for_it),
		live(a_zap_alone_discards_nothing),
		cmocka_unit_test_setup_teardown(swap_in_brings_nothing_back_that_was_discarded,
						create_large, destroy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
