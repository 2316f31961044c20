/* Arithmetic on untrusted numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/base/checked.h"

static void sums_that_wrap_are_refused(void **state)
{
	uint64_t sum = 7;
	(void)state;

	assert_true(checked_add(UINT64_MAX - 1, 1, &sum));
	assert_int_equal(sum, UINT64_MAX);
	assert_false(checked_add(UINT64_MAX, 1, &sum));
}

static void products_that_wrap_are_refused(void **state)
{
	uint64_t product;
	(void)state;

	assert_true(checked_mul(1ull << 31, 1ull << 32, &product));
	assert_int_equal(product, 1ull << 63);
	assert_false(checked_mul(1ull << 32, 1ull << 32, &product));
}

static void a_range_may_end_at_the_limit_and_not_behind_it(void **state)
{
	(void)state;

	assert_true(range_within(0, 4096, 4096));
	assert_true(range_within(4096, 0, 4096));
	assert_true(range_within(4095, 1, 4096));
	assert_false(range_within(4095, 2, 4096));
	assert_false(range_within(4097, 0, 4096));
	assert_false(range_within(1, UINT64_MAX, 4096));
	assert_false(range_within(UINT64_MAX, UINT64_MAX, 4096));
}

static void aligning_up_past_the_end_is_refused(void **state)
{
	uint64_t aligned;
	(void)state;

	assert_true(checked_align_up(4097, 4096, &aligned));
	assert_int_equal(aligned, 8192);
	assert_true(checked_align_up(8192, 4096, &aligned));
	assert_int_equal(aligned, 8192);
	assert_false(checked_align_up(UINT64_MAX - 100, 4096, &aligned));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_that_wrap_are_refused),
		cmocka_unit_test(products_that_wrap_are_refused),
		cmocka_unit_test(a_range_may_end_at_the_limit_and_not_behind_it),
		cmocka_unit_test(aligning_up_past_the_end_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
