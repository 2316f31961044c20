/* The table of commands and what each answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake_machine.h"
#include "vmm/base/checked.h"
#include "vmm/control/commands.h"

static const struct control_host host = {.name = "web"};
static struct error error;

static int setup(void **state)
{
	(void)state;
	fake_machine_init();
	memset(&error, 0, sizeof(error));
	return 0;
}

/* Runs @name with @argument (may be NULL); its -errno, or 0 with *result. */
static int run(const char *name, const char *argument, json_t **result)
{
	struct control_request request = {.command = name};
	const struct command *command = commands_find(name);

	if (argument)
		request.arguments[request.argument_count++] = argument;
	assert_non_null(command);
	return command->run(&host, &request, result, &error);
}

static void every_command_has_a_handler_and_help(void **state)
{
	(void)state;
	for (size_t i = 0; i < command_count; i++) {
		assert_int_equal((commands[i].run != NULL) +
					 (commands[i].operation != SWAP_OP_NONE) +
					 commands[i].streams,
				 1);
		assert_true(commands[i].help[0]);
		assert_ptr_equal(commands_find(commands[i].name), &commands[i]);
	}
}

static void words_are_matched_to_commands(void **state)
{
	const char *const out[] = {"swap", "out"};
	const char *const joined[] = {"swap out"};
	const char *const balloon[] = {"balloon", "64M"};
	const char *const set[] = {"swap", "in", "--working-set"};
	const char *const prefetch[] = {"resume", "--prefetch"};
	const char *const half[] = {"swap"};
	const char *const wrong[] = {"swapout"};
	const char *const longer[] = {"status", "swap"};
	size_t used;

	(void)state;
	assert_string_equal(commands_match(out, 2, &used)->name, "swap out");
	assert_int_equal(used, 2);
	assert_string_equal(commands_match(joined, 1, &used)->name, "swap out");
	assert_int_equal(used, 1);
	assert_string_equal(commands_match(balloon, 2, &used)->name, "balloon");
	assert_int_equal(used, 1);
	assert_string_equal(commands_match(set, 3, &used)->name, "swap in --working-set");
	assert_int_equal(used, 3);
	assert_string_equal(commands_match(prefetch, 2, &used)->name, "resume --prefetch");
	assert_null(commands_match(half, 1, &used));
	assert_null(commands_match(wrong, 1, &used));
	assert_string_equal(commands_match(longer, 2, &used)->name, "status");
	assert_int_equal(used, 1);
}

static void status_names_the_machine(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("status", NULL, &result), 0);
	assert_string_equal(json_string_value(json_object_get(result, "name")), "web");
	assert_string_equal(json_string_value(json_object_get(result, "state")), "running");
	assert_int_equal(json_integer_value(json_object_get(result, "memory_bytes")), 64 << 20);
	assert_true(json_is_null(json_object_get(json_object_get(result, "swap"), "operation")));
	json_decref(result);
}

static void swap_status_tells_what_runs(void **state)
{
	json_t *result;
	json_t *operation;

	(void)state;
	fake.operation = SWAP_OP_OUT;
	assert_int_equal(run("swap status", NULL, &result), 0);
	operation = json_object_get(result, "operation");
	assert_string_equal(json_string_value(json_object_get(operation, "operation")), "out");
	assert_string_equal(json_string_value(json_object_get(operation, "command")), "swap out");
	assert_int_equal(json_integer_value(json_object_get(operation, "pages_done")), 25);
	json_decref(result);
}

static uint64_t sum_of(const json_t *result, const char *place)
{
	const json_t *number;
	uint64_t sum = 0;
	size_t i;

	json_array_foreach(json_object_get(result, place), i, number)
	{
		sum += (uint64_t)json_integer_value(number);
	}
	return sum;
}

static void memory_map_has_a_number_for_each_cell_and_place(void **state)
{
	static const char *const places[] = {"empty", "resident", "staged",
					     "pool",  "disk",     "filled"};
	json_t *result;
	uint64_t sum = 0;

	(void)state;
	assert_int_equal(run("memory-map", "10", &result), 0);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		assert_int_equal(json_array_size(json_object_get(result, places[i])), 10);
		sum += sum_of(result, places[i]);
	}
	assert_int_equal(sum, 100);
	assert_int_equal(sum_of(result, "disk"), 50);
	assert_int_equal(json_integer_value(json_object_get(result, "pages_per_cell")), 10);
	assert_int_equal(json_array_size(json_object_get(result, "regions")), 2);
	json_decref(result);
}

static void memory_map_gives_no_more_cells_than_there_are_pages(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("memory-map", NULL, &result), 0);
	assert_int_equal(json_integer_value(json_object_get(result, "cells")), 100);
	json_decref(result);
}

static void memory_map_refuses_what_is_no_number_of_cells(void **state)
{
	static const char *const wrong[] = {
		"0", "16385", "-1", "+5", " 7", "7x", "many", "", "99999999999999999999"};
	json_t *result;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(run("memory-map", wrong[i], &result), -ERANGE);
}

static void status_tells_the_time_of_the_virtual_cpus(void **state)
{
	json_t *result;

	(void)state;
	fake.cpu_ns = 1234567;
	assert_int_equal(run("status", NULL, &result), 0);
	assert_int_equal(json_integer_value(json_object_get(result, "cpu_time_ns")), 1234567);
	json_decref(result);
}

static const json_t *member(const json_t *object, const char *outer, const char *inner)
{
	const json_t *value = json_object_get(object, outer);

	return inner ? json_object_get(value, inner) : value;
}

static void swap_status_has_an_entry_per_operation(void **state)
{
	static const char *const keys[] = {
		"enable",      "trim",    "out",         "in",
		"working_set", "disable", "dump_memory", "checksum_memory",
	};
	json_t *result;
	json_t *last;

	(void)state;
	fake.last = SWAP_OP_CHECKSUM;
	assert_int_equal(run("swap status", NULL, &result), 0);
	last = json_object_get(result, "last");
	assert_int_equal(json_object_size(last), ARRAY_SIZE(keys));
	for (size_t i = 0; i < ARRAY_SIZE(keys) - 1; i++)
		assert_true(json_is_null(json_object_get(last, keys[i])));
	assert_string_equal(json_string_value(member(last, "checksum_memory", "command")),
			    "checksum-memory");
	json_decref(result);
}

static void swap_status_tells_what_the_store_costs(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("swap status", NULL, &result), 0);
	/* 50 pages that take space, in 25 pages' worth of it. */
	assert_float_equal(json_real_value(member(result, "compression_ratio", NULL)), 2.0, 1e-9);
	assert_float_equal(json_real_value(member(result, "tables_bytes_per_page", NULL)), 12.5,
			   1e-9);
	assert_int_equal(json_integer_value(member(result, "store_live_bytes", NULL)), 102400);
	assert_int_equal(json_integer_value(member(result, "store_disk_bytes", NULL)), 122880);
	assert_string_equal(json_string_value(member(result, "store", "path")), "/swap");
	assert_string_equal(json_string_value(member(result, "store", "compression")), "lz4");
	assert_true(json_is_true(member(result, "store", "encryption")));
	assert_int_equal(json_integer_value(member(result, "store", "entries_filled")), 10);
	json_decref(result);
}

static void swap_status_has_latencies_by_kind(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("swap status", NULL, &result), 0);
	assert_int_equal(json_object_size(member(result, "latency", NULL)), SWAP_FAULT_KINDS);
	assert_int_equal(
		json_integer_value(json_object_get(member(result, "latency", "pool"), "p50_ns")),
		7000);
	assert_int_equal(
		json_integer_value(json_object_get(member(result, "latency", "pool"), "mean_ns")),
		10000);
	assert_int_equal(
		json_integer_value(json_object_get(member(result, "latency", "file"), "mean_ns")),
		0);
	json_decref(result);
}

static void report_of_out_says_what_freeing_cost(void **state)
{
	const struct swap_operation_report out = {
		.operation = SWAP_OP_OUT,
		.pages_moved = 1000,
		.duration_ns = 500000000,
		.written_bytes = 1024000,
	};
	json_t *report = commands_report(&out, 4096);

	(void)state;
	assert_float_equal(json_real_value(json_object_get(report, "written_per_freed")), 0.25,
			   1e-9);
	assert_int_equal(json_integer_value(json_object_get(report, "rate_bytes_per_s")), 8192000);
	assert_true(json_is_null(json_object_get(report, "digest")));
	json_decref(report);
}

static void report_of_nothing_divides_by_nothing(void **state)
{
	const struct swap_operation_report out = {.operation = SWAP_OP_OUT};
	json_t *report = commands_report(&out, 4096);

	(void)state;
	assert_true(json_is_null(json_object_get(report, "written_per_freed")));
	assert_int_equal(json_integer_value(json_object_get(report, "rate_bytes_per_s")), 0);
	json_decref(report);
}

static void checksum_is_reported_with_its_kind(void **state)
{
	const struct swap_operation_report sum = {.operation = SWAP_OP_CHECKSUM, .digest = "0a1b"};
	json_t *report = commands_report(&sum, 4096);

	(void)state;
	assert_string_equal(json_string_value(json_object_get(report, "digest")), "sha256:0a1b");
	json_decref(report);
}

static void operations_are_named_as_they_are_typed(void **state)
{
	(void)state;
	assert_string_equal(commands_operation_command(SWAP_OP_OUT), "swap out");
	assert_string_equal(commands_operation_command(SWAP_OP_DUMP), "dump-memory");
	assert_string_equal(commands_operation_command(SWAP_OP_WORKING_SET),
			    "swap in --working-set");
	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++)
		assert_non_null(commands_find(commands_operation_command((enum swap_operation)i)));
}

static void balloon_takes_a_size(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("balloon", "16M", &result), 0);
	assert_int_equal(fake.balloon_target, 48 << 20);
	assert_int_equal(json_integer_value(json_object_get(result, "guest_bytes")), 16 << 20);
	json_decref(result);
	assert_int_equal(run("balloon", NULL, &result), 0);
	json_decref(result);
}

static void bad_balloon_sizes_are_refused(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("balloon", "much", &result), -ERANGE);
	assert_int_equal(run("balloon", "-5", &result), -ERANGE);
	assert_int_equal(run("balloon", "1T", &result), -ERANGE);
	assert_int_equal(fake.balloon_target, 0);
}

static void wrong_state_is_named(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("resume", NULL, &result), -EINVAL);
	assert_non_null(strstr(error.text, "running"));
	assert_int_equal(run("pause", NULL, &result), 0);
	assert_string_equal(json_string_value(json_object_get(result, "state")), "paused");
	json_decref(result);
	assert_int_equal(run("pause", NULL, &result), -EINVAL);
	assert_non_null(strstr(error.text, "paused"));
}

static void help_lists_every_command(void **state)
{
	json_t *result;

	(void)state;
	assert_int_equal(run("help", NULL, &result), 0);
	assert_int_equal(json_array_size(json_object_get(result, "commands")), command_count);
	json_decref(result);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_command_has_a_handler_and_help, setup),
		cmocka_unit_test_setup(words_are_matched_to_commands, setup),
		cmocka_unit_test_setup(status_names_the_machine, setup),
		cmocka_unit_test_setup(swap_status_tells_what_runs, setup),
		cmocka_unit_test_setup(swap_status_has_an_entry_per_operation, setup),
		cmocka_unit_test_setup(swap_status_tells_what_the_store_costs, setup),
		cmocka_unit_test_setup(swap_status_has_latencies_by_kind, setup),
		cmocka_unit_test(report_of_out_says_what_freeing_cost),
		cmocka_unit_test(report_of_nothing_divides_by_nothing),
		cmocka_unit_test(checksum_is_reported_with_its_kind),
		cmocka_unit_test(operations_are_named_as_they_are_typed),
		cmocka_unit_test_setup(memory_map_has_a_number_for_each_cell_and_place, setup),
		cmocka_unit_test_setup(memory_map_gives_no_more_cells_than_there_are_pages, setup),
		cmocka_unit_test_setup(memory_map_refuses_what_is_no_number_of_cells, setup),
		cmocka_unit_test_setup(status_tells_the_time_of_the_virtual_cpus, setup),
		cmocka_unit_test_setup(balloon_takes_a_size, setup),
		cmocka_unit_test_setup(bad_balloon_sizes_are_refused, setup),
		cmocka_unit_test_setup(wrong_state_is_named, setup),
		cmocka_unit_test_setup(help_lists_every_command, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
