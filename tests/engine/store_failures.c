/*
 * A store that fails to take pages or to give them back: nothing is lost, nothing is invented, and who
 * waits for a page is told of. The store's functions are wrapped by the linker, so that they fail when
 * a test wants it.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"
#include "tests/engine/store_wrap.h"

#define PAGES    64u
#define ALL_FAIL 1000000

static struct engine engine;
static _Atomic int append_error;
static _Atomic int wait_error;
static _Atomic int failing_reads; /* so many of the next ones */

int __wrap_store_append(struct store_writer *writer, const void *page, store_location *location)
{
	return append_error ? -append_error : __real_store_append(writer, page, location);
}

int __wrap_store_wait(struct store_writer *writer, unsigned parcel)
{
	int result = __real_store_wait(writer, parcel);

	return wait_error ? -wait_error : result;
}

static bool read_fails(void)
{
	if (failing_reads <= 0)
		return false;
	failing_reads--;
	return true;
}

int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[])
{
	return read_fails() ? -EIO : __real_store_read(reader, locations, count, pages);
}

int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[])
{
	int result = __real_store_read_finish(reader, read, pages);

	return read_fails() ? -EIO : result;
}

static int create(void **state)
{
	(void)state;
	append_error = wait_error = failing_reads = 0;
	engine_create(&engine, PAGES, true);
	return 0;
}

static int destroy(void **state)
{
	(void)state;
	engine_destroy(&engine);
	return 0;
}

/* ---- writes that fail ---- */

static void a_full_store_leaves_the_page_staged(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	engine_stage(&engine);
	append_error = ENOSPC;

	assert_int_equal(run_job(&engine, pager_write_out, NULL), -ENOSPC);

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pager_page_state(engine.pager, i), PAGE_STAGED);
	for (size_t i = 0; i < 4; i++)
		assert_true(page_holds(page_of(&engine, i), (uint32_t)i));
}

static void a_disk_that_does_not_take_what_was_written_leaves_pages_staged(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	engine_stage(&engine);
	wait_error = EIO;

	assert_int_equal(run_job(&engine, pager_write_out, NULL), -EIO);

	assert_int_equal(stored_entries(&engine), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pager_page_state(engine.pager, i), PAGE_STAGED);
	for (size_t i = 0; i < 4; i++)
		assert_true(page_holds(page_of(&engine, i), (uint32_t)i));
}

static void a_write_error_can_be_tried_again(void **state)
{
	(void)state;
	fill_page(page_of(&engine, 0), 0);
	engine_stage(&engine);
	append_error = EIO;
	assert_int_equal(run_job(&engine, pager_write_out, NULL), -EIO);
	append_error = 0;

	assert_int_equal(run_job(&engine, pager_write_out, NULL), 0);

	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	assert_true(page_holds(page_of(&engine, 0), 0));
}

/* ---- reads that fail ---- */

static void a_store_read_that_fails_once_is_retried(void **state)
{
	(void)state;
	fill_page(page_of(&engine, 0), 0);
	engine_swap_out(&engine);
	failing_reads = PAGER_STORE_READ_TRIES - 1;

	assert_true(page_holds(page_of(&engine, 0), 0));
	assert_int_equal(engine.troubles, 0);
}

static void a_store_that_cannot_be_read_holds_the_toucher_and_tells_once(void **state)
{
	(void)state;
	struct toucher toucher;
	fill_page(page_of(&engine, 0), 77);
	uint8_t value = page_of(&engine, 0)[5];
	engine_swap_out(&engine);
	failing_reads = ALL_FAIL;

	toucher_start(&toucher, page_of(&engine, 0) + 5);
	await(engine.troubles == 1);
	usleep(300000);

	/* No zeros are invented: the toucher sleeps until the store can be read. */
	assert_false(toucher.done);
	assert_int_equal(engine.troubles, 1);
	assert_true(monitor_in_trouble(engine.monitor));
	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	failing_reads = 0;
	toucher_join(&toucher);
	await(!monitor_in_trouble(engine.monitor));
	assert_int_equal(toucher.value, value);
}

static void a_swap_in_that_cannot_read_loses_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++)
		fill_page(page_of(&engine, i), (uint32_t)i);
	engine_swap_out(&engine);
	failing_reads = ALL_FAIL;

	assert_int_equal(run_job(&engine, pager_swap_in, NULL), -EIO);
	failing_reads = 0;

	assert_int_equal(pager_page_state(engine.pager, 0), PAGE_SWAPPED);
	for (size_t i = 0; i < 4; i++)
		assert_true(page_holds(page_of(&engine, i), (uint32_t)i));
}

static void clean_pages_are_found_without_a_read(void **state)
{
	(void)state;
	fill_page(page_of(&engine, 0), 9);
	engine_swap_out(&engine);
	assert_true(page_holds(page_of(&engine, 0), 9));
	engine_stage(&engine);
	failing_reads = ALL_FAIL;

	assert_int_equal(run_job(&engine, pager_write_out, NULL), 0);
	failing_reads = 0;

	assert_int_equal(counters_of(&engine).stored, 1);
	assert_int_equal(counters_of(&engine).trimmed_clean, 1);
	assert_true(page_holds(page_of(&engine, 0), 9));
}

/* On the monitor's thread: another one answers. */
static void touch_others(void)
{
	for (size_t i = 1; i < 32; i++)
		page_of(&engine, i)[0] = 1;
}

static void trouble_lasts_while_others_are_served(void **state)
{
	struct toucher toucher;
	(void)state;
	fill_page(page_of(&engine, 0), 7);
	uint8_t value = page_of(&engine, 0)[5];
	engine_swap_out(&engine);
	failing_reads = ALL_FAIL;
	engine.on_trouble = touch_others;

	toucher_start(&toucher, page_of(&engine, 0) + 5);
	await(engine.troubles > 0);
	usleep(500000);

	assert_int_equal(engine.troubles, 1);
	assert_true(monitor_in_trouble(engine.monitor));
	failing_reads = 0;
	toucher_join(&toucher);
	assert_int_equal(toucher.value, value);
	await(!monitor_in_trouble(engine.monitor));
}

#define with_engine(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_engine(a_full_store_leaves_the_page_staged),
		with_engine(a_disk_that_does_not_take_what_was_written_leaves_pages_staged),
		with_engine(a_write_error_can_be_tried_again),
		with_engine(a_store_read_that_fails_once_is_retried),
		with_engine(a_store_that_cannot_be_read_holds_the_toucher_and_tells_once),
		with_engine(a_swap_in_that_cannot_read_loses_nothing),
		with_engine(clean_pages_are_found_without_a_read),
		with_engine(trouble_lasts_while_others_are_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
