/* `ebb run --config FILE`: what a file may say, and where a mistake is said to be. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "command_line.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/options/config_file.h"
#include "vmm/options/options.h"

static char directory[] = "/tmp/ebb-config-XXXXXX";
static char path[64];
static struct vm_config config;
static struct error error;

static int make_directory(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/vm.json", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	options_release(&config);
	unlink(path);
	return rmdir(directory);
}

static void write_bytes(const void *bytes, size_t length)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
}

static void write_text(const char *text)
{
	write_bytes(text, strlen(text));
}

/* `ebb run --config FILE` and the words of @line. */
static int parse_with(const char *line)
{
	char whole[1024];

	options_release(&config);
	snprintf(whole, sizeof(whole), "--config %s %s", path, line);
	return command_line_parse(whole, &config, &error);
}

static int parse(const char *json)
{
	write_text(json);
	return parse_with("");
}

static void assert_error(const char *place, const char *part)
{
	char start[96];

	snprintf(start, sizeof(start), "%s%s", path, place);
	if (strncmp(error.text, start, strlen(start)) || !strstr(error.text, part))
		fail_msg("\"%s\" does not say \"%s\" at %s", error.text, part, place);
	for (const char *c = error.text; *c; c++)
		assert_true((unsigned char)*c >= ' ' && *c != '\x7f');
}

/* The file is refused, at @place (":LINE:COLUMN: "), with a line that contains @part. */
static void assert_refused(const char *json, const char *place, const char *part)
{
	assert_int_equal(parse(json), -EINVAL);
	assert_error(place, part);
	assert_null(config.given);
}

static void strings_numbers_and_switches_are_taken(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"kernel\": \"k\", \"cpus\": 2, \"memory\": \"64M\",\n"
			       " \"disk\": [\"a\", \"b,ro\"], \"swap-dir\": \"/s\",\n"
			       " \"swap-encrypt\": false, \"swap-pool\": 67108864}"),
			 OPTIONS_OK);
	assert_string_equal(config.kernel, "k");
	assert_int_equal(config.cpus, 2);
	assert_int_equal(config.memory_bytes, 64 * MIB);
	assert_int_equal(config.disk_count, 2);
	assert_string_equal(config.disks[1].path, "b");
	assert_true(config.disks[1].read_only);
	assert_string_equal(config.swap.store.path, "/s");
	assert_false(config.swap.store.encrypt);
	assert_int_equal(config.swap.store.pool_bytes, 64 * MIB);
}

static void option_that_repeats_may_be_no_list(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"kernel\": \"k\", \"disk\": \"a\"}"), OPTIONS_OK);
	assert_int_equal(config.disk_count, 1);
	assert_int_equal(parse("{\"kernel\": \"k\", \"disk\": []}"), OPTIONS_OK);
	assert_int_equal(config.disk_count, 0);
}

static void command_line_wins_and_adds_to_lists(void **state)
{
	(void)state;
	write_text("{\"kernel\":\"k\",\"cpus\":2,\"disk\":[\"a\"],\"serial\":\"file=x\"}");
	assert_int_equal(parse_with("--cpus 3 --disk b --serial none"), OPTIONS_OK);
	assert_int_equal(config.cpus, 3);
	assert_int_equal(config.disk_count, 2);
	assert_string_equal(config.disks[0].path, "a");
	assert_string_equal(config.disks[1].path, "b");
	assert_int_equal(config.serial, SERIAL_NONE);
	assert_null(config.serial_path);
}

static void overridden_value_is_judged_too(void **state)
{
	static const char json[] = "{\"kernel\": \"k\", \"cpus\": 99}";

	(void)state;
	write_text(json);
	assert_int_equal(parse_with("--cpus 3"), -EINVAL);
	assert_error(":1:25: ", "1 to 64");
}

static void mistake_on_the_command_line_has_no_place(void **state)
{
	static const char json[] = "{\"kernel\": \"k\"}";

	(void)state;
	write_text(json);
	assert_int_equal(parse_with("--cpus 99"), -EINVAL);
	assert_int_equal(strncmp(error.text, "--cpus 99", 9), 0);
}

static void unknown_keys_name_the_nearest(void **state)
{
	(void)state;
	assert_refused("{\n  \"kernel\": \"k\",\n  \"memroy\": \"1G\"\n}",
		       ":3:3: ", "did you mean \"memory\"?");
	assert_refused("{\"swap_dir\": \"1G\"}", ":1:2: ", "did you mean \"swap-dir\"?");
	assert_refused("{\"Kernel\": \"k\"}", ":1:2: ", "did you mean \"kernel\"?");
	assert_refused("{\"zzzzzzzzzz\": 1}", ":1:2: ", "`ebb help run`");
	assert_refused("{\"\": 1}", ":1:2: ", "no such option");
	assert_refused("{\"a\\nb\\u001b[2J\": 1}", ":1:2: ", "no such option");
}

static void options_about_the_file_are_not_in_it(void **state)
{
	(void)state;
	assert_refused("{\"config\": \"x\"}", ":1:2: ", "command line alone");
	assert_refused("{\"print-config\": true}", ":1:2: ", "command line alone");
}

static void wrong_values_say_what_the_command_line_says(void **state)
{
	(void)state;
	assert_refused("{\"kernel\": \"k\",\n\t\"memory\": \"lots\"}",
		       ":2:12: ", "--memory lots: no size");
	assert_refused("{\"kernel\": \"k\",\n\"disk\": [\"a\",\n  \"b,rw\"]}",
		       ":3:3: ", "unknown option \"rw\"");
	assert_refused("{\"cpus\": -1}", ":1:10: ", "1 to 64");
	assert_refused("{\"swap-auto\": \"idle\"}", ":1:15: ", "idle=SECONDS");
}

static void wrong_types_are_refused(void **state)
{
	static const struct {
		const char *json, *place, *part;
	} files[] = {
		{"{\"kernel\": 5}", ":1:12: ", "cannot be a number: give a string"},
		{"{\"kernel\": null}", ":1:12: ", "cannot be null"},
		{"{\"cpus\": true}", ":1:10: ", "a whole number or a string"},
		{"{\"cpus\": 1.5}", ":1:10: ", "a number that is not whole"},
		{"{\"cpus\": [2]}", ":1:10: ", "cannot be an array"},
		{"{\"disk\": {\"path\": 1}}", ":1:10: ", "or an array of such"},
		{"{\"disk\": [\"a\", [\"b\"]]}", ":1:16: ", "cannot be an array"},
		{"{\"swap-encrypt\": 1}", ":1:18: ", "true, false or a string"},
		{"[]", ":1:1: ", "JSON object"},
		{"\"kernel\"", ":1:1: ", "JSON object"},
		{"17", ":1:1: ", "JSON object"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_refused(files[i].json, files[i].place, files[i].part);
}

static void syntax_errors_have_their_place(void **state)
{
	(void)state;
	assert_refused("{\n\"kernel\": \"k\"\n\"cpus\": 2}", ":3:", "near");
	assert_refused("{\"cpus\": 1, \"cpus\": 2}", ":1:", "duplicate");
	assert_refused("{\"kernel\": \"k\"", ":1:", "near end of file");
	assert_refused("{\"kernel\": \"k\"} x", ":1:", "end of file expected");
	assert_refused("{\"kernel\": 'k'}", ":1:", "near");
	assert_refused("{\"kernel\": \"a\\u0000b\"}", ":1:", "NUL");
	assert_refused("{\"cpus\": 99999999999999999999}", ":1:", "too big");
}

static void braces_and_quotes_in_strings_move_no_place(void **state)
{
	(void)state;
	assert_refused("{\"cmdline\": \"a\\\"}],{\\\\\", \"disk\": [\"]\", \"x,,y\"], \"cpu\": 1}",
		       ":1:49: ", "did you mean \"cpus\"?");
}

static void empty_and_binary_files_are_refused(void **state)
{
	static const unsigned char garbage[] = {0x7f, 'E',  'L', 'F', 0,  1,
						0xff, 0xfe, 27,  '[', 'H'};

	(void)state;
	assert_refused("", ": ", "empty");
	assert_refused(" \n\t", ": ", "empty");
	write_bytes(garbage, sizeof(garbage));
	assert_int_equal(parse_with(""), -EINVAL);
	assert_error(":1:", "");
	write_bytes("\0\0\0\0", 4);
	assert_int_equal(parse_with(""), -EINVAL);
	assert_error(":1:", "");
}

static void deep_nesting_is_refused(void **state)
{
	static char json[100001];

	(void)state;
	memset(json, '[', sizeof(json) - 1);
	write_bytes(json, sizeof(json) - 1);
	assert_int_equal(parse_with(""), -EINVAL);
	assert_error(":1:", "depth");
}

static void length_of_a_list_is_bounded(void **state)
{
	static char json[16 + 3 * (CONFIG_FILE_LIST_MAX + 1)];

	(void)state;
	strcpy(json, "{\"disk\": [");
	for (unsigned i = 0; i <= CONFIG_FILE_LIST_MAX; i++)
		strcat(json, i ? ",1" : "1");
	strcat(json, "]}");
	assert_refused(json, ":1:10: ", "more than 256 elements");
}

static void size_of_a_file_is_bounded(void **state)
{
	static char json[CONFIG_FILE_MAX + 1];

	(void)state;
	memset(json, ' ', sizeof(json));
	memcpy(json, "{\"kernel\": \"k\"}", 15);
	write_bytes(json, CONFIG_FILE_MAX);
	assert_int_equal(parse_with(""), OPTIONS_OK);
	write_bytes(json, sizeof(json));
	assert_int_equal(parse_with(""), -EFBIG);
	assert_error(": ", "larger than");
	/* One whose size is told wrong. */
	assert_int_equal(config_file_read("/proc/self/maps", &(struct option_values){0}, &error),
			 -EINVAL);
}

static void only_regular_files_are_read(void **state)
{
	(void)state;
	unlink(path);
	assert_int_equal(parse_with(""), -ENOENT);
	assert_error(": ", "No such file");
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(parse_with(""), -EINVAL);
	assert_error(": ", "not a regular file");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(parse_with(""), -EISDIR);
	assert_error(": ", "a directory");
	rmdir(path);
}

/* Every row of the table can be said by a file, and is said again by --print-config. */
static void what_is_printed_is_read_back(void **state)
{
	static const char json[] =
		"{\"kernel\":\"k\",\"disk\":[\"a,,b,ro\",\"c\"],\"cpus\":2,\"swap-encrypt\":false,"
		"\"cmdline\":\"x=\\\"1\\\" \\u00e9\",\"memory\":\"64M\",\"swap-pool\":67108864}";
	char *first = NULL;
	char *second = NULL;

	(void)state;
	write_text(json);
	assert_int_equal(parse_with("--print-config --disk d,id=x --cpus 4"), OPTIONS_PRINT);
	assert_int_equal(options_print(&config, &first, &error), 0);
	assert_non_null(strstr(first, "\"cpus\": 4"));
	assert_non_null(strstr(first, "\"swap-encrypt\": false"));
	assert_null(strstr(first, "print-config"));
	write_text(first);
	assert_int_equal(parse_with("--print-config"), OPTIONS_PRINT);
	assert_int_equal(config.disk_count, 3);
	assert_string_equal(config.disks[0].path, "a,b");
	assert_int_equal(options_print(&config, &second, &error), 0);
	assert_string_equal(first, second);
	free(first);
	free(second);
}

static void bytes_that_json_cannot_say_are_not_printed(void **state)
{
	char *text;

	(void)state;
	write_text("{\"kernel\":\"k\"}");
	assert_int_equal(parse_with("--print-config --cmdline \xff"), OPTIONS_PRINT);
	assert_int_equal(options_print(&config, &text, &error), -EINVAL);
	assert_non_null(strstr(error.text, "not UTF-8"));
}

static void file_is_read_again_with_the_command_line_of_then(void **state)
{
	struct vm_config fresh;

	(void)state;
	write_text("{\"kernel\":\"k\",\"disk\":\"a,ro\"}");
	assert_int_equal(parse_with("--cpus 3 --disk b,ro"), OPTIONS_OK);
	write_text("{\"kernel\":\"l\",\"cpus\":2}");
	assert_int_equal(options_reread(&config, &fresh, &error), 0);
	assert_string_equal(fresh.kernel, "l");
	assert_int_equal(fresh.cpus, 3);
	assert_int_equal(fresh.disk_count, 1);
	assert_true(fresh.disks[0].read_only);
	options_release(&fresh);
	write_text("{\"kernel\":");
	assert_int_equal(options_reread(&config, &fresh, &error), -EINVAL);
	assert_string_equal(config.kernel, "k");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strings_numbers_and_switches_are_taken),
		cmocka_unit_test(option_that_repeats_may_be_no_list),
		cmocka_unit_test(command_line_wins_and_adds_to_lists),
		cmocka_unit_test(overridden_value_is_judged_too),
		cmocka_unit_test(mistake_on_the_command_line_has_no_place),
		cmocka_unit_test(unknown_keys_name_the_nearest),
		cmocka_unit_test(options_about_the_file_are_not_in_it),
		cmocka_unit_test(wrong_values_say_what_the_command_line_says),
		cmocka_unit_test(wrong_types_are_refused),
		cmocka_unit_test(syntax_errors_have_their_place),
		cmocka_unit_test(braces_and_quotes_in_strings_move_no_place),
		cmocka_unit_test(empty_and_binary_files_are_refused),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(length_of_a_list_is_bounded),
		cmocka_unit_test(size_of_a_file_is_bounded),
		cmocka_unit_test(only_regular_files_are_read),
		cmocka_unit_test(what_is_printed_is_read_back),
		cmocka_unit_test(bytes_that_json_cannot_say_are_not_printed),
		cmocka_unit_test(file_is_read_again_with_the_command_line_of_then),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
