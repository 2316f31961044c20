/* Answers as tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/render.h"

static char *text;
static size_t text_length;

static FILE *open_text(void)
{
	FILE *out = open_memstream(&text, &text_length);

	assert_non_null(out);
	return out;
}

/* The text of @command's result @json. */
static void render(const char *command, const char *json)
{
	json_t *result = json_loads(json, 0, NULL);
	FILE *out = open_text();

	assert_non_null(result);
	render_result(out, command, result);
	fclose(out);
	json_decref(result);
}

static int free_text(void **state)
{
	(void)state;
	free(text);
	text = NULL;
	return 0;
}

static void assert_says(const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in:\n%s", part, text);
}

static void status_is_an_aligned_table(void **state)
{
	(void)state;
	render("status",
	       "{\"name\":\"web\",\"pid\":42,\"state\":\"paused\",\"reason\":\"no store\","
	       "\"vcpus\":2,\"memory_bytes\":536870912,\"memory_allocated_bytes\":12288,"
	       "\"uptime_ns\":125000000000,\"balloon\":null,\"swap\":{\"available\":true,"
	       "\"state\":\"out\",\"operation\":\"in\",\"store_disk_bytes\":4096}}");
	assert_says("  name                 web\n");
	assert_says("  state                paused: no store\n");
	assert_says("  memory               512 MiB\n");
	assert_says("  memory on host       12.0 KiB\n");
	assert_says("  uptime               2 min\n");
	assert_says("  swap                 out (in is running)\n");
}

static void missing_members_are_left_out(void **state)
{
	(void)state;
	render("status", "{}");
	assert_says("swap                 not available");
	free_text(NULL);
	render("swap status", "{}");
	assert_says("faults");
	free_text(NULL);
	render("help", "{}");
	assert_string_equal(text, "");
}

static void members_of_a_wrong_type_are_left_out(void **state)
{
	(void)state;
	render("status", "{\"name\":7,\"pid\":\"x\",\"vcpus\":-1,\"memory_bytes\":[],\"swap\":3}");
	assert_null(strstr(text, "vcpus"));
	assert_null(strstr(text, "memory"));
}

static void swap_status_shows_pages_as_bytes(void **state)
{
	(void)state;
	render("swap status",
	       "{\"available\":true,\"state\":\"out\",\"page_size_bytes\":4096,\"pages_total\":256,"
	       "\"pages_swapped\":128,\"counters\":{\"faults_copied\":5},\"operation\":null,"
	       "\"last\":{\"out\":{\"operation\":\"out\",\"pages_moved\":128,\"cancelled\":false,"
	       "\"message\":\"\",\"duration_ns\":5000000}}}");
	assert_says("total                       256     1.0 MiB\n");
	assert_says("swapped out                 128     512 KiB\n");
	assert_says("from the store     5\n");
	assert_says("5.0 ms  done\n");
}

static void operation_is_one_line(void **state)
{
	(void)state;
	render("swap out", "{\"operation\":\"out\",\"pages_moved\":256,\"page_size_bytes\":4096,"
			   "\"duration_ns\":1500000,\"state\":\"out\"}");
	assert_string_equal(text, "swap out: 256 pages (1.0 MiB) in 1.5 ms; state: out\n");
}

static void progress_keeps_within_the_terminal(void **state)
{
	json_t *progress = json_pack("{s:s,s:i,s:i}", "operation", "out", "pages_done", 50,
				     "pages_total", 100);
	FILE *out;

	(void)state;
	for (unsigned columns = 20; columns < 200; columns += 20) {
		out = open_text();
		render_progress(out, progress, columns);
		fclose(out);
		assert_true(text_length <= columns + 1);
		assert_says("50 %");
		free_text(NULL);
	}
	json_decref(progress);
}

static void progress_of_nothing_divides_by_nothing(void **state)
{
	json_t *progress = json_pack("{s:i,s:i}", "pages_done", 5, "pages_total", 0);
	FILE *out = open_text();

	(void)state;
	render_progress(out, progress, 80);
	fclose(out);
	assert_says("0 %");
	json_decref(progress);
}

static void list_has_a_line_per_machine(void **state)
{
	json_t *machines = json_loads(
		"[{\"name\":\"a\",\"pid\":1,\"state\":\"running\",\"memory_bytes\":1048576,"
		"\"memory_allocated_bytes\":4096,\"swap\":{\"available\":true,\"state\":\"staged\"}},"
		"{\"name\":\"b\",\"pid\":2,\"state\":\"unresponsive\"}]",
		0, NULL);
	FILE *out = open_text();

	(void)state;
	render_list(out, machines);
	fclose(out);
	json_decref(machines);
	assert_says("NAME");
	assert_says("running     1.0 MiB     4.0 KiB  staged\n");
	assert_says("unresponsive\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(status_is_an_aligned_table, free_text),
		cmocka_unit_test_teardown(missing_members_are_left_out, free_text),
		cmocka_unit_test_teardown(members_of_a_wrong_type_are_left_out, free_text),
		cmocka_unit_test_teardown(swap_status_shows_pages_as_bytes, free_text),
		cmocka_unit_test_teardown(operation_is_one_line, free_text),
		cmocka_unit_test_teardown(progress_keeps_within_the_terminal, free_text),
		cmocka_unit_test_teardown(progress_of_nothing_divides_by_nothing, free_text),
		cmocka_unit_test_teardown(list_has_a_line_per_machine, free_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
