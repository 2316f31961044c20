/* The history of a VM: spans that join up, and what merging keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/size.h"
#include "vmm/control/history.h"

static struct history_input input;
static struct latency latency[SWAP_FAULT_KINDS];
static struct history *history;

static int setup(void **state)
{
	(void)state;
	memset(&input, 0, sizeof(input));
	memset(latency, 0, sizeof(latency));
	input.now_ns = 1000 * NS_PER_SEC;
	input.bytes[MEMORY_EMPTY] = 64 * MIB;
	history = history_create(&input);
	return history ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	history_destroy(history);
	return 0;
}

/* The moment @ns after the last one. */
static void pass(uint64_t ns)
{
	input.now_ns += ns;
	for (int i = 0; i < SWAP_FAULT_KINDS; i++)
		latency_take(&latency[i], &input.latency[i]);
	history_add(history, &input);
}

static void set_resident(uint64_t bytes)
{
	input.bytes[MEMORY_RESIDENT] = bytes;
	input.bytes[MEMORY_EMPTY] = 64 * MIB - bytes;
}

static uint64_t pages_of(const struct history_sample *sample)
{
	uint64_t sum = 0;

	for (int i = 0; i < MEMORY_STATES; i++)
		sum += sample->pages[i];
	return sum;
}

static void assert_joined(uint64_t start_ns, uint64_t end_ns)
{
	for (size_t i = 0; i < history_sample_count(history); i++) {
		const struct history_sample *sample = history_sample(history, i);

		assert_int_equal(sample->start_ns, start_ns);
		assert_true(sample->end_ns > sample->start_ns);
		start_ns = sample->end_ns;
	}
	assert_int_equal(start_ns, end_ns);
}

static void a_new_history_is_empty(void **state)
{
	(void)state;
	assert_int_equal(history_sample_count(history), 0);
	assert_int_equal(history_mark_count(history), 0);
	assert_int_equal(history_start_ns(history), 1000 * NS_PER_SEC);
}

static void a_sample_tells_what_came_since_the_last(void **state)
{
	const struct history_sample *sample;

	(void)state;
	input.cpu_ns = 100;
	pass(NS_PER_SEC);
	set_resident(8 * MIB);
	input.cpu_ns = 350;
	for (int i = 0; i < 100; i++)
		latency_add(&latency[SWAP_FAULT_POOL], i < 98 ? 2000 : 500000);

	pass(NS_PER_SEC);

	assert_int_equal(history_sample_count(history), 2);
	sample = history_sample(history, 1);
	assert_int_equal(sample->cpu_ns, 250);
	assert_int_equal(sample->pages[MEMORY_RESIDENT], 2048);
	assert_int_equal(sample->faults[SWAP_FAULT_POOL].count, 100);
	assert_in_range((uint64_t)sample->faults[SWAP_FAULT_POOL].p50_ns, 2000, 2250);
	assert_in_range((uint64_t)sample->faults[SWAP_FAULT_POOL].p99_ns, 500000, 562500);
	assert_int_equal(sample->faults[SWAP_FAULT_FILE].count, 0);
	assert_int_equal(history_sample(history, 0)->faults[SWAP_FAULT_POOL].count, 0);
}

static void a_reset_guest_begins_its_cpu_time_anew(void **state)
{
	(void)state;
	input.cpu_ns = 5000;
	pass(NS_PER_SEC);
	input.cpu_ns = 70;

	pass(NS_PER_SEC);

	assert_int_equal(history_sample(history, 1)->cpu_ns, 70);
}

static void looks_in_between_make_no_samples_of_their_own(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		pass(NS_PER_SEC / 100);

	assert_in_range(history_sample_count(history), 1, 2);
	assert_joined(1000 * NS_PER_SEC, 1001 * NS_PER_SEC);
}

static void a_clock_that_stands_still_is_ignored(void **state)
{
	(void)state;
	pass(NS_PER_SEC);

	pass(0);

	assert_int_equal(history_sample_count(history), 1);
}

static void a_full_history_is_halved_and_keeps_its_sums(void **state)
{
	uint64_t faults = 0, cpu = 0;

	(void)state;
	for (unsigned i = 0; i < HISTORY_SAMPLES + 1; i++) {
		input.cpu_ns += 10;
		latency_add(&latency[SWAP_FAULT_FILE], 3000);
		set_resident(i % 2 ? 16 * MIB : 0);
		pass(NS_PER_SEC);
	}

	assert_int_equal(history_sample_count(history), HISTORY_SAMPLES / 2 + 1);
	assert_int_equal(history_interval_ns(history), 2 * HISTORY_INTERVAL_NS);
	assert_joined(1000 * NS_PER_SEC, (1001 + HISTORY_SAMPLES) * NS_PER_SEC);
	for (size_t i = 0; i < history_sample_count(history); i++) {
		const struct history_sample *sample = history_sample(history, i);

		faults += sample->faults[SWAP_FAULT_FILE].count;
		cpu += sample->cpu_ns;
		assert_int_equal(pages_of(sample), 64 * MIB / 4096);
	}
	assert_int_equal(faults, HISTORY_SAMPLES + 1);
	assert_int_equal(cpu, 10 * (HISTORY_SAMPLES + 1));
	/* The mean of none and 16 MiB. */
	assert_int_equal(history_sample(history, 0)->pages[MEMORY_RESIDENT], 2048);
}

static void a_month_fits(void **state)
{
	const uint64_t month_s = 30 * 86400;

	(void)state;
	for (uint64_t i = 0; i < month_s / 10; i++)
		pass(10 * NS_PER_SEC);

	assert_in_range(history_sample_count(history), HISTORY_SAMPLES / 2, HISTORY_SAMPLES);
	assert_joined(1000 * NS_PER_SEC, (1000 + month_s) * NS_PER_SEC);
	for (size_t i = 0; i + 1 < history_sample_count(history); i++)
		assert_true(history_sample(history, i)->end_ns -
				    history_sample(history, i)->start_ns >=
			    history_interval_ns(history) / 4 * 3);
}

static void merged_latency_is_never_flattered(void **state)
{
	const struct history_faults *faults;

	(void)state;
	for (int i = 0; i < 300; i++)
		latency_add(&latency[SWAP_FAULT_FILE], 1000);
	pass(NS_PER_SEC / 2);
	for (int i = 0; i < 100; i++)
		latency_add(&latency[SWAP_FAULT_FILE], 1000000);

	pass(NS_PER_SEC / 2);

	assert_int_equal(history_sample_count(history), 1);
	faults = &history_sample(history, 0)->faults[SWAP_FAULT_FILE];
	assert_int_equal(faults->count, 400);
	assert_true(faults->p99_ns >= 1000000);
	assert_true(faults->p50_ns >= 1000 && faults->p50_ns <= 300000);
}

static void a_span_without_faults_changes_no_latency(void **state)
{
	(void)state;
	latency_add(&latency[SWAP_FAULT_ZERO], 5000);
	pass(NS_PER_SEC / 2);
	pass(NS_PER_SEC / 2);

	assert_int_equal(history_sample(history, 0)->faults[SWAP_FAULT_ZERO].count, 1);
	assert_in_range((uint64_t)history_sample(history, 0)->faults[SWAP_FAULT_ZERO].p50_ns, 5000,
			5625);
}

static void the_last_marks_are_kept(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < HISTORY_MARKS + 5; i++) {
		const struct history_mark mark = {.start_ns = i, .operation = SWAP_OP_OUT};

		history_add_mark(history, &mark);
	}

	assert_int_equal(history_mark_count(history), HISTORY_MARKS);
	assert_int_equal(history_marks_dropped(history), 5);
	assert_int_equal(history_mark(history, 0)->start_ns, 5);
	assert_int_equal(history_mark(history, HISTORY_MARKS - 1)->start_ns, HISTORY_MARKS + 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_new_history_is_empty),
		TEST(a_sample_tells_what_came_since_the_last),
		TEST(a_reset_guest_begins_its_cpu_time_anew),
		TEST(looks_in_between_make_no_samples_of_their_own),
		TEST(a_clock_that_stands_still_is_ignored),
		TEST(a_full_history_is_halved_and_keeps_its_sums),
		TEST(a_month_fits),
		TEST(merged_latency_is_never_flattered),
		TEST(a_span_without_faults_changes_no_latency),
		TEST(the_last_marks_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
