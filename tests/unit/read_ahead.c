/* How far faults reach: long for touchers that go in order, one page for those that jump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swap/read_ahead.h"

static int create(void **state)
{
	static struct read_ahead ahead;

	read_ahead_init(&ahead);
	*state = &ahead;
	return 0;
}

static int destroy(void **state)
{
	read_ahead_destroy(*state);
	return 0;
}

/* A fault on @page, for which all that is asked for is brought. Returns how many pages. */
static size_t fault(struct read_ahead *ahead, size_t page)
{
	size_t length = read_ahead_length(ahead, page);

	read_ahead_done(ahead, page, length);
	return length;
}

static void a_toucher_in_order_gets_longer_and_longer_stretches(void **state)
{
	size_t page = 1000;

	for (size_t expected = 1; expected <= READ_AHEAD_MAX; expected *= 2) {
		assert_int_equal(fault(*state, page), expected);
		page += expected;
	}
	assert_int_equal(fault(*state, page), READ_AHEAD_MAX);
}

static void a_random_toucher_gets_single_pages(void **state)
{
	uint32_t page = 1;

	for (int i = 0; i < 1000; i++) {
		page = page * 1664525 + 1013904223;
		assert_int_equal(fault(*state, page / 2 * 2), 1);
	}
}

static void several_streams_are_followed_at_once(void **state)
{
	size_t next[8];
	for (size_t i = 0; i < 8; i++)
		next[i] = i * 1000000;

	for (int round = 0; round < 8; round++)
		for (size_t i = 0; i < 8; i++)
			next[i] += fault(*state, next[i]);

	for (size_t i = 0; i < 8; i++)
		assert_int_equal(fault(*state, next[i]), READ_AHEAD_MAX);
}

static void random_touches_between_do_not_end_a_stream_at_once(void **state)
{
	size_t next = 5000000;

	for (int round = 0; round < 10; round++) {
		next += fault(*state, next);
		for (size_t i = 0; i < READ_AHEAD_STREAMS - 2; i++)
			fault(*state, i * 7919 + (size_t)round * 104729);
	}

	assert_int_equal(fault(*state, next), READ_AHEAD_MAX);
}

static void a_stretch_cut_short_does_not_slow_the_stream(void **state)
{
	size_t page = 0;
	for (int i = 0; i < 10; i++)
		page += fault(*state, page);

	assert_int_equal(read_ahead_length(*state, page), READ_AHEAD_MAX);
	read_ahead_done(*state, page, 3);

	assert_int_equal(read_ahead_length(*state, page + 3), READ_AHEAD_MAX);
}

static void a_page_that_needs_nothing_does_not_end_a_stream(void **state)
{
	size_t page = 0;
	for (int i = 0; i < 4; i++)
		page += fault(*state, page);

	read_ahead_skip(*state, page);
	read_ahead_skip(*state, page + 500);

	assert_int_equal(read_ahead_length(*state, page + 1), 16);
}

#define with_ahead(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_ahead(a_toucher_in_order_gets_longer_and_longer_stretches),
		with_ahead(a_random_toucher_gets_single_pages),
		with_ahead(several_streams_are_followed_at_once),
		with_ahead(random_touches_between_do_not_end_a_stream_at_once),
		with_ahead(a_page_that_needs_nothing_does_not_end_a_stream),
		with_ahead(a_stretch_cut_short_does_not_slow_the_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
