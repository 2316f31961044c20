/* `ebb swap`: its command line, and what it prints. */
#include "vmm/client/swap_all.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/client/render.h"

static struct swap_all_options options;
static struct error error;

/* The words of @line, which stay valid until the next call. */
static int parse(const char *line)
{
	static char words[256];
	static char *argv[16];
	int argc = 0;

	strcpy(words, line);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	return swap_all_options_parse(argc, argv, &options, &error);
}

static void all_machines_are_meant_by_all(void **state)
{
	(void)state;
	assert_int_equal(parse("swap --all out"), 0);
	assert_true(options.all);
	assert_string_equal(options.verb, "out");
	assert_int_equal(options.name_count, 0);
	assert_true(options.jobs >= 2);
	assert_int_equal(options.timeout_ns, 30 * NS_PER_SEC);
}

static void names_come_before_the_command(void **state)
{
	(void)state;
	assert_int_equal(parse("swap --json a b.c in"), 0);
	assert_false(options.all);
	assert_true(options.json);
	assert_int_equal(options.name_count, 2);
	assert_string_equal(options.names[1], "b.c");
	assert_string_equal(options.verb, "in");
}

static void options_may_come_behind(void **state)
{
	(void)state;
	assert_int_equal(parse("swap status --all --jobs 7 --timeout 2"), 0);
	assert_int_equal(options.jobs, 7);
	assert_int_equal(options.timeout_ns, 2 * NS_PER_SEC);
	assert_string_equal(options.verb, "status");
}

static void wrong_usage_is_refused(void **state)
{
	static const char *const lines[] = {
		"swap",
		"swap out",
		"swap --all",
		"swap --all fly",
		"swap --all web out",
		"swap web web out",
		"swap ../web out",
		"swap --jobs 0 --all out",
		"swap --jobs x --all out",
		"swap --jobs -1 --all out",
		"swap --jobs 99999999999999999999 --all out",
		"swap --timeout 0 --all out",
		"swap --timeout",
		"swap --fast --all out",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		error.text[0] = '\0';
		if (parse(lines[i]) != -EINVAL)
			fail_msg("\"%s\" is accepted", lines[i]);
		assert_true(error.text[0]);
	}
}

static void help_is_asked_for(void **state)
{
	(void)state;
	assert_int_equal(parse("swap --help"), 0);
	assert_true(options.help);
}

static void assert_renders(void (*render)(FILE *, const json_t *), const char *json,
			   const char *expected)
{
	json_t *object = json_loads(json, 0, NULL);
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	assert_non_null(object);
	render(out, object);
	fclose(out);
	json_decref(object);
	assert_string_equal(text, expected);
	free(text);
}

static void line_says_what_became_of_a_machine(void **state)
{
	(void)state;
	assert_renders(render_swap_all,
		       "{\"name\":\"web\",\"done\":true,\"state\":\"out\",\"bytes\":1048576,"
		       "\"duration_ns\":2000000,\"error\":null}",
		       "web                       out         1.0 MiB  in 2.0 ms\n");
	assert_renders(render_swap_all,
		       "{\"name\":\"web\",\"done\":true,\"skipped\":true,\"state\":\"disabled\"}",
		       "web                       disabled nothing to do\n");
	assert_renders(render_swap_all,
		       "{\"name\":\"web\",\"done\":false,\"error\":{\"code\":\"silent\","
		       "\"message\":\"no answer\"}}",
		       "web                       failed: no answer\n");
}

static void total_sums_up(void **state)
{
	(void)state;
	assert_renders(render_swap_all_total,
		       "{\"machines\":3,\"done\":2,\"failed\":1,\"bytes\":2097152,"
		       "\"duration_ns\":3000000000}",
		       "3 machines                            2.0 MiB  in 3.0 s  1 failed\n");
}

static void anything_else_is_rendered_without_harm(void **state)
{
	(void)state;
	assert_renders(render_swap_all, "{\"error\":5,\"status\":[]}",
		       "                                          0 B  in 0.0 us\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_machines_are_meant_by_all),
		cmocka_unit_test(names_come_before_the_command),
		cmocka_unit_test(options_may_come_behind),
		cmocka_unit_test(wrong_usage_is_refused),
		cmocka_unit_test(help_is_asked_for),
		cmocka_unit_test(line_says_what_became_of_a_machine),
		cmocka_unit_test(total_sums_up),
		cmocka_unit_test(anything_else_is_rendered_without_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
