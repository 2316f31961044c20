/* What a guest touches first when it wakes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swap/working_set.h"

#define PAGES 16000u
#define CAP   (PAGES / 16 + 1)

static int create(void **state)
{
	return working_set_create(PAGES, (struct working_set **)state);
}

static int destroy(void **state)
{
	working_set_destroy(*state);
	return 0;
}

static void a_cycle_is_remembered_in_order_and_once(void **state)
{
	static const size_t touched[] = {7, 3, 7, 900, 3, 1};
	static const size_t expected[] = {7, 3, 900, 1};

	for (size_t i = 0; i < 6; i++)
		working_set_note(*state, touched[i]);
	assert_int_equal(working_set_count(*state), 0);
	working_set_learn(*state);

	assert_int_equal(working_set_count(*state), 4);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(working_set_page(*state, i), expected[i]);
}

static void recent_cycles_are_united_the_last_one_first(void **state)
{
	working_set_note(*state, 1);
	working_set_note(*state, 2);
	working_set_learn(*state);

	working_set_note(*state, 3);
	working_set_note(*state, 2);
	working_set_learn(*state);

	assert_int_equal(working_set_count(*state), 3);
	assert_int_equal(working_set_page(*state, 0), 3);
	assert_int_equal(working_set_page(*state, 1), 2);
	assert_int_equal(working_set_page(*state, 2), 1);
}

static void what_is_never_asked_for_again_is_forgotten(void **state)
{
	working_set_note(*state, 1);
	working_set_learn(*state);

	for (unsigned i = 0; i < WORKING_SET_CYCLES; i++) {
		working_set_note(*state, 2);
		working_set_learn(*state);
	}

	assert_int_equal(working_set_count(*state), 1);
	assert_int_equal(working_set_page(*state, 0), 2);
}

static void a_cycle_without_faults_changes_nothing(void **state)
{
	working_set_note(*state, 1);
	working_set_learn(*state);

	for (unsigned i = 0; i < 2 * WORKING_SET_CYCLES; i++)
		working_set_learn(*state);

	assert_int_equal(working_set_count(*state), 1);
}

static void no_more_than_the_cap_is_remembered(void **state)
{
	for (size_t page = 0; page < PAGES; page++)
		working_set_note(*state, page);
	working_set_learn(*state);
	for (size_t page = 0; page < 10; page++)
		working_set_note(*state, PAGES - 1 - page);
	working_set_learn(*state);

	assert_int_equal(working_set_count(*state), CAP);
	assert_int_equal(working_set_page(*state, 0), PAGES - 1);
	assert_int_equal(working_set_page(*state, 10), 0);
	assert_true(working_set_ram_bytes(*state) <= PAGES / 2 + 16);
}

static void pages_beyond_what_an_entry_can_name_are_left_out(void **state)
{
	working_set_note(*state, 1ull << 40);
	working_set_learn(*state);

	assert_int_equal(working_set_count(*state), 0);
}

#define with_set(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_set(a_cycle_is_remembered_in_order_and_once),
		with_set(recent_cycles_are_united_the_last_one_first),
		with_set(what_is_never_asked_for_again_is_forgotten),
		with_set(a_cycle_without_faults_changes_nothing),
		with_set(no_more_than_the_cap_is_remembered),
		with_set(pages_beyond_what_an_entry_can_name_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
