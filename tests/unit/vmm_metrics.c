/* Metrics as text, and the division of guest memory that they show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/size.h"
#include "vmm/machine/memory_states.h"
#include "vmm/metrics/metrics_process.h"
#include "vmm/metrics/metrics_text.h"

static struct metrics_input input;
static char *text;

static int setup(void **state)
{
	(void)state;
	memset(&input, 0, sizeof(input));
	input.version = "1.2";
	input.name = "web";
	input.machine.memory_bytes = 64 * MIB;
	input.swap.page_size = 4096;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(text);
	text = NULL;
	return 0;
}

static void write_text(void)
{
	size_t length;

	assert_int_equal(metrics_text_write(&input, &text, &length), 0);
	assert_int_equal(strlen(text), length);
}

/* @line is a whole line of the text. */
static void assert_line(const char *line)
{
	char wanted[256];

	snprintf(wanted, sizeof(wanted), "\n%s\n", line);
	if (!strstr(text, wanted))
		fail_msg("no line \"%s\" in:\n%s", line, text);
}

static void a_metric_has_help_type_and_value(void **state)
{
	(void)state;
	input.machine.resets = 3;

	write_text();

	assert_line("# HELP ebb_resets_total Resets of the guest.\n"
		    "# TYPE ebb_resets_total counter\n"
		    "ebb_resets_total 3");
}

static void large_numbers_are_exact(void **state)
{
	(void)state;
	input.machine.memory_bytes = (1ull << 50) + 4096;

	write_text();

	assert_line("ebb_guest_memory_bytes 1125899906846720");
}

static void label_values_are_escaped(void **state)
{
	(void)state;
	input.name = "a\"b\\c\nd";

	write_text();

	assert_line("ebb_guest_info{name=\"a\\\"b\\\\c\\nd\"} 1");
}

static void exactly_one_state_is_set(void **state)
{
	(void)state;
	input.machine.state = MACHINE_PAUSED;
	input.swap.state = SWAP_OUT;

	write_text();

	assert_line("ebb_guest_state{state=\"running\"} 0");
	assert_line("ebb_guest_state{state=\"paused\"} 1");
	assert_line("ebb_swap_state{state=\"staged\"} 0");
	assert_line("ebb_swap_state{state=\"out\"} 1");
}

static void histogram_is_cumulative_and_ends_with_the_count(void **state)
{
	struct latency latency = {0};

	(void)state;
	latency_add(&latency, 1000);
	latency_add(&latency, 1024);
	latency_add(&latency, 5000);
	latency_add(&latency, 100000000000ull); /* beyond the last bound */
	latency_take(&latency, &input.latency[SWAP_FAULT_POOL]);

	write_text();

	assert_line("ebb_swap_fault_duration_seconds_bucket{kind=\"pool\",le=\"1.023e-06\"} 1");
	assert_line("ebb_swap_fault_duration_seconds_bucket{kind=\"pool\",le=\"2.047e-06\"} 2");
	assert_line("ebb_swap_fault_duration_seconds_bucket{kind=\"pool\",le=\"8.191e-06\"} 3");
	assert_line("ebb_swap_fault_duration_seconds_bucket{kind=\"pool\",le=\"17.179869183\"} 3");
	assert_line("ebb_swap_fault_duration_seconds_bucket{kind=\"pool\",le=\"+Inf\"} 4");
	assert_line("ebb_swap_fault_duration_seconds_count{kind=\"pool\"} 4");
	assert_line("ebb_swap_faults_total{kind=\"pool\"} 4");
	assert_line("ebb_swap_fault_duration_seconds_count{kind=\"zero\"} 0");
}

static void operations_are_counted_by_result(void **state)
{
	(void)state;
	input.swap.totals[SWAP_OP_OUT] = (struct swap_operation_totals){
		.done = 5, .failed = 1, .cancelled = 2, .duration_ns = 2500000000ull};

	write_text();

	assert_line("ebb_swap_operations_total{operation=\"out\",result=\"done\"} 5");
	assert_line("ebb_swap_operations_total{operation=\"out\",result=\"failed\"} 1");
	assert_line("ebb_swap_operations_total{operation=\"out\",result=\"cancelled\"} 2");
	assert_line("ebb_swap_operation_duration_seconds_sum{operation=\"out\"} 2.5");
	assert_line("ebb_swap_operation_duration_seconds_count{operation=\"out\"} 8");
}

static void what_is_not_known_is_left_out(void **state)
{
	(void)state;

	write_text();

	assert_null(strstr(text, "process_"));
	assert_null(strstr(text, "ebb_balloon_"));
	assert_null(strstr(text, "ebb_start_duration_seconds"));
}

static uint64_t sum_of(const uint64_t bytes[MEMORY_STATES])
{
	uint64_t sum = 0;

	for (int i = 0; i < MEMORY_STATES; i++)
		sum += bytes[i];
	return sum;
}

static void memory_without_swap_is_resident_or_empty(void **state)
{
	uint64_t bytes[MEMORY_STATES];

	(void)state;
	input.machine.memory_allocated_bytes = 16 * MIB;
	input.machine.balloon.actual_bytes = 8 * MIB;

	memory_states_divide(&input.machine, &input.swap, bytes);

	assert_int_equal(bytes[MEMORY_RESIDENT], 16 * MIB);
	assert_int_equal(bytes[MEMORY_BALLOONED], 8 * MIB);
	assert_int_equal(bytes[MEMORY_EMPTY], 40 * MIB);
	assert_int_equal(sum_of(bytes), 64 * MIB);
}

static void swapped_memory_is_divided_as_the_store_is(void **state)
{
	uint64_t bytes[MEMORY_STATES];

	(void)state;
	input.swap.state = SWAP_OUT;
	input.swap.pages_resident = 1024;
	input.swap.pages_staged = 500;
	input.swap.pages_writing = 12;
	input.swap.pages_swapped = 8192;
	input.swap.store = (struct store_usage){
		.entries = 16000, .entries_filled = 1000, .entries_pool = 3000};

	memory_states_divide(&input.machine, &input.swap, bytes);

	assert_int_equal(bytes[MEMORY_RESIDENT], 4 * MIB);
	assert_int_equal(bytes[MEMORY_STAGED], 2 * MIB);
	assert_int_equal(bytes[MEMORY_POOL], 8 * MIB);
	assert_int_equal(bytes[MEMORY_DISK], 24 * MIB);
	assert_int_equal(sum_of(bytes), 64 * MIB);
}

static void counts_that_do_not_fit_are_cut(void **state)
{
	uint64_t bytes[MEMORY_STATES];

	(void)state;
	input.swap.state = SWAP_STAGED;
	input.swap.pages_resident = 10000;
	input.swap.pages_staged = 10000;
	input.swap.pages_swapped = 10000;
	input.machine.balloon.actual_bytes = 1ull << 60;

	memory_states_divide(&input.machine, &input.swap, bytes);

	assert_int_equal(sum_of(bytes), 64 * MIB);
	assert_int_equal(bytes[MEMORY_DISK] + bytes[MEMORY_POOL] + bytes[MEMORY_BALLOONED], 0);
}

static void stat_of_a_process_with_a_hostile_name(void **state)
{
	struct metrics_process process = {0};
	uint64_t start;

	(void)state;
	assert_true(metrics_process_parse_stat(
		"12 (a) R 9 (b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 1900 2000 21 22",
		&process, &start));
	assert_int_equal(process.threads, 17);
	assert_int_equal(start, 1900);
	assert_int_equal(process.virtual_bytes, 2000);
	assert_int_equal(process.resident_bytes, 21 * 4096);
	assert_false(metrics_process_parse_stat("12 (a) R 9", &process, &start));
	assert_false(metrics_process_parse_stat("", &process, &start));
}

static void this_process_is_read(void **state)
{
	struct metrics_process process;

	(void)state;
	metrics_process_read(&process);

	assert_true(process.valid);
	assert_int_equal(process.threads, 1);
	assert_true(process.open_fds >= 3);
	assert_true(process.start_seconds > 1e9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_metric_has_help_type_and_value, setup, teardown),
		cmocka_unit_test_setup_teardown(large_numbers_are_exact, setup, teardown),
		cmocka_unit_test_setup_teardown(label_values_are_escaped, setup, teardown),
		cmocka_unit_test_setup_teardown(exactly_one_state_is_set, setup, teardown),
		cmocka_unit_test_setup_teardown(histogram_is_cumulative_and_ends_with_the_count,
						setup, teardown),
		cmocka_unit_test_setup_teardown(operations_are_counted_by_result, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_known_is_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_without_swap_is_resident_or_empty, setup,
						teardown),
		cmocka_unit_test_setup_teardown(swapped_memory_is_divided_as_the_store_is, setup,
						teardown),
		cmocka_unit_test_setup_teardown(counts_that_do_not_fit_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(stat_of_a_process_with_a_hostile_name, setup,
						teardown),
		cmocka_unit_test_setup_teardown(this_process_is_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
