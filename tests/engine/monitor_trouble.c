/* What the monitor tells of pages that cannot be provided, while it goes on serving others. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"

#define PAGES 64u

int __real_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[]);
int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[]);
int __real_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[]);
int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[]);

static struct engine engine;
static _Atomic bool reads_fail;

int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[])
{
	return reads_fail ? -EIO : __real_store_read(reader, locations, count, pages);
}

int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[])
{
	int result = __real_store_read_finish(reader, read, pages);

	return reads_fail ? -EIO : result;
}

static int create(void **state)
{
	(void)state;
	reads_fail = false;
	engine_create(&engine, PAGES, true);
	return 0;
}

static int destroy(void **state)
{
	(void)state;
	engine_destroy(&engine);
	return 0;
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
	reads_fail = true;
	engine.on_trouble = touch_others;

	toucher_start(&toucher, page_of(&engine, 0) + 5);
	await(engine.troubles > 0);
	usleep(500000);

	assert_int_equal(engine.troubles, 1);
	assert_true(monitor_in_trouble(engine.monitor));
	reads_fail = false;
	toucher_join(&toucher);
	assert_int_equal(toucher.value, value);
	await(!monitor_in_trouble(engine.monitor));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(trouble_lasts_while_others_are_served, create,
						destroy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
