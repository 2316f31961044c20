/* Latency histograms: percentiles within an eighth, whatever the magnitude. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swap/latency.h"

static void nothing_recorded_is_all_zero(void **state)
{
	static struct latency latency;
	struct latency_summary summary;
	(void)state;

	latency_summarize(&latency, &summary);

	assert_int_equal(summary.count, 0);
	assert_int_equal(summary.p50_ns, 0);
	assert_int_equal(summary.max_ns, 0);
}

static void percentiles_are_within_an_eighth(void **state)
{
	static struct latency latency;
	struct latency_summary summary;
	(void)state;
	for (uint64_t i = 1; i <= 1000; i++)
		latency_add(&latency, i * 1000);

	latency_summarize(&latency, &summary);

	assert_int_equal(summary.count, 1000);
	assert_int_equal(summary.sum_ns, 500500000);
	assert_int_equal(summary.max_ns, 1000000);
	assert_in_range(summary.p50_ns, 500000, 500000 * 9 / 8);
	assert_in_range(summary.p90_ns, 900000, 1000000);
	assert_in_range(summary.p99_ns, 990000, 1000000);
	assert_in_range(summary.p999_ns, 999000, 1000000);
}

static void every_magnitude_has_its_bucket(void **state)
{
	(void)state;

	for (uint64_t ns = 1; ns < 60ull * 1000 * 1000 * 1000; ns = ns * 5 / 4 + 1) {
		struct latency latency = {0};
		struct latency_summary summary;

		latency_add(&latency, ns);
		latency_add(&latency, ns * 10);
		latency_summarize(&latency, &summary);

		assert_in_range(summary.p50_ns, ns, ns < 128 ? ns + 16 : ns * 9 / 8);
	}
}

static void what_is_longer_than_the_last_bucket_counts_as_the_largest(void **state)
{
	static struct latency latency;
	struct latency_summary summary;
	(void)state;

	latency_add(&latency, UINT64_MAX / 2);
	latency_summarize(&latency, &summary);

	assert_int_equal(summary.count, 1);
	assert_int_equal(summary.max_ns, UINT64_MAX / 2);
}

static void merging_adds_up(void **state)
{
	static struct latency one, other;
	struct latency_summary summary;
	(void)state;
	latency_add(&one, 1000);
	latency_add(&other, 5000);
	latency_add(&other, 7000);

	latency_merge(&one, &other);
	latency_summarize(&one, &summary);

	assert_int_equal(summary.count, 3);
	assert_int_equal(summary.sum_ns, 13000);
	assert_int_equal(summary.max_ns, 7000);
}

static void counts_below_powers_of_two_are_exact(void **state)
{
	static struct latency latency;
	struct latency_snapshot snapshot;
	(void)state;
	latency_add(&latency, 100);
	latency_add(&latency, 127);
	latency_add(&latency, 128);
	latency_add(&latency, 1023);
	latency_add(&latency, 1024);
	latency_add(&latency, UINT64_MAX / 2);

	latency_take(&latency, &snapshot);

	assert_int_equal(snapshot.count, 6);
	assert_int_equal(latency_below(&snapshot, 7), 2);
	assert_int_equal(latency_below(&snapshot, 10), 4);
	assert_int_equal(latency_below(&snapshot, 11), 5);
	assert_int_equal(latency_below(&snapshot, 34), 5);
}

static void what_came_between_has_its_own_percentiles(void **state)
{
	static struct latency latency;
	struct latency_snapshot before, after, difference;
	(void)state;
	for (int i = 0; i < 100; i++)
		latency_add(&latency, 1000000);
	latency_take(&latency, &before);
	for (int i = 0; i < 98; i++)
		latency_add(&latency, 2000);
	latency_add(&latency, 50000);
	latency_add(&latency, 50000);
	latency_take(&latency, &after);

	latency_between(&before, &after, &difference);

	assert_int_equal(difference.count, 100);
	assert_int_equal(difference.sum_ns, 98 * 2000 + 100000);
	assert_in_range(latency_percentile(&difference, 500), 2000, 2000 * 9 / 8);
	assert_in_range(latency_percentile(&difference, 990), 50000, 50000 * 9 / 8);
	latency_between(&after, &after, &difference);
	assert_int_equal(latency_percentile(&difference, 990), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_recorded_is_all_zero),
		cmocka_unit_test(percentiles_are_within_an_eighth),
		cmocka_unit_test(every_magnitude_has_its_bucket),
		cmocka_unit_test(what_is_longer_than_the_last_bucket_counts_as_the_largest),
		cmocka_unit_test(merging_adds_up),
		cmocka_unit_test(counts_below_powers_of_two_are_exact),
		cmocka_unit_test(what_came_between_has_its_own_percentiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
