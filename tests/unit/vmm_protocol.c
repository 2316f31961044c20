/* Lines of the control socket: requests from anybody, answers for everybody. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/checked.h"
#include "vmm/control/control_protocol.h"

static struct control_request request;
static struct error error;

static enum control_code parse(const char *line)
{
	return control_request_parse(line, strlen(line), &request, &error);
}

static void command_and_arguments_are_read(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"command\":\"balloon\",\"arguments\":[\"256M\",\"x\"]}"),
			 CONTROL_OK);
	assert_string_equal(request.command, "balloon");
	assert_int_equal(request.argument_count, 2);
	assert_string_equal(request.arguments[0], "256M");
	assert_string_equal(request.arguments[1], "x");
	control_request_clear(&request);
}

static void arguments_may_be_left_out(void **state)
{
	(void)state;
	assert_int_equal(parse(" {\"command\" : \"status\"} \r"), CONTROL_OK);
	assert_int_equal(request.argument_count, 0);
	control_request_clear(&request);
}

static void what_is_no_request_is_refused(void **state)
{
	static const char *const lines[] = {
		"",
		"   ",
		"status",
		"{",
		"}",
		"[]",
		"null",
		"7",
		"\"status\"",
		"{}",
		"{\"command\":}",
		"{\"command\":7}",
		"{\"command\":null}",
		"{\"command\":[\"status\"]}",
		"{\"arguments\":[]}",
		"{\"command\":\"status\",\"arguments\":\"x\"}",
		"{\"command\":\"status\",\"arguments\":{}}",
		"{\"command\":\"status\",\"arguments\":[7]}",
		"{\"command\":\"status\",\"arguments\":[\"a\",null]}",
		"{\"command\":\"status\",\"arguments\":[[\"a\"]]}",
		"{\"command\":\"status\",\"arguments\":[1,2,3,4,5,6,7,8,9]}",
		"{\"command\":\"status\",\"id\":1}",
		"{\"command\":\"status\",\"command\":\"quit\"}",
		"{\"command\":\"status\"}{\"command\":\"quit\"}",
		"{\"command\":\"a\\u0000b\"}",
		"{\"command\":\"\xff\xfe\"}",
		"{'command':'status'}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		memset(&error, 0, sizeof(error));
		if (parse(lines[i]) != CONTROL_INVALID_REQUEST)
			fail_msg("taken: %s", lines[i]);
		assert_true(error.text[0]);
	}
}

static void deep_nesting_is_refused(void **state)
{
	char line[CONTROL_REQUEST_MAX];

	(void)state;
	memset(line, '[', sizeof(line) - 1);
	assert_int_equal(control_request_parse(line, sizeof(line) - 1, &request, &error),
			 CONTROL_INVALID_REQUEST);
	assert_non_null(strstr(error.text, "nested"));
}

static void brackets_in_strings_do_not_count(void **state)
{
	(void)state;
	assert_int_equal(parse("{\"command\":\"[[[[[{{{{{\\\"[[[[[\"}"), CONTROL_OK);
	control_request_clear(&request);
}

static void too_long_a_line_is_refused(void **state)
{
	char line[CONTROL_REQUEST_MAX];

	(void)state;
	memset(line, ' ', sizeof(line));
	memcpy(line, "{\"command\":\"status\"}", 20);
	assert_int_equal(control_request_parse(line, sizeof(line), &request, &error),
			 CONTROL_INVALID_REQUEST);
	assert_int_equal(control_request_parse(line, sizeof(line) - 1, &request, &error),
			 CONTROL_OK);
	control_request_clear(&request);
}

/* A request with random bytes put in, cut or doubled is judged without harm. */
static void random_lines_do_no_harm(void **state)
{
	static const char seed_line[] =
		"{\"command\":\"balloon\",\"arguments\":[\"256M\",\"\\u00e9\"]}";
	unsigned taken = 0;

	(void)state;
	srand(20240607);
	for (int round = 0; round < 20000; round++) {
		char line[256];
		size_t length = sizeof(seed_line) - 1;

		memcpy(line, seed_line, length);
		for (int i = rand() % 4; i >= 0; i--) {
			if (rand() % 3 == 0 && length)
				length = (size_t)rand() % length;
			else if (length)
				line[(size_t)rand() % length] = (char)rand();
		}
		if (control_request_parse(line, length, &request, &error) == CONTROL_OK) {
			control_request_clear(&request);
			taken++;
		}
	}
	assert_true(taken < 20000);
}

static void codes_and_names_belong_together(void **state)
{
	(void)state;
	for (int code = CONTROL_INVALID_REQUEST; code < CONTROL_CODE_COUNT; code++) {
		const char *name = control_code_name((enum control_code)code);

		assert_non_null(name);
		assert_int_equal(control_code_by_name(name), code);
	}
	assert_int_equal(control_code_by_name("from the future"), CONTROL_FAILED);
}

static void failures_have_codes(void **state)
{
	(void)state;
	assert_int_equal(control_code_from_errno(0), CONTROL_OK);
	assert_int_equal(control_code_from_errno(-EINVAL), CONTROL_WRONG_STATE);
	assert_int_equal(control_code_from_errno(-EBUSY), CONTROL_BUSY);
	assert_int_equal(control_code_from_errno(-ENOTSUP), CONTROL_UNSUPPORTED);
	assert_int_equal(control_code_from_errno(-ENOSPC), CONTROL_NO_SPACE);
	assert_int_equal(control_code_from_errno(-EIO), CONTROL_FAILED);
}

static void own_requests_are_understood(void **state)
{
	const char *const words[] = {"a\"b\n", "\xc3\xa9"};
	char *line = control_format_request("swap out", words, 2);

	(void)state;
	assert_non_null(line);
	assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
	assert_int_equal(control_request_parse(line, strlen(line) - 1, &request, &error),
			 CONTROL_OK);
	assert_string_equal(request.command, "swap out");
	assert_string_equal(request.arguments[0], "a\"b\n");
	assert_string_equal(request.arguments[1], "\xc3\xa9");
	control_request_clear(&request);
	free(line);
}

static void errors_with_strange_bytes_are_sent(void **state)
{
	char *line = control_format_error(CONTROL_FAILED, "disk \xff: no");

	(void)state;
	assert_string_equal(line, "{\"error\":{\"code\":\"failed\",\"message\":\"disk ?: no\"}}\n");
	free(line);
}

/* A VM that was taken over must not act on the terminal of who asks it. */
static void answers_hold_no_control_characters(void **state)
{
	const json_t *body;
	const char *kind;
	json_t *answer = control_answer_parse(
		"{\"result\":{\"name\":\"a\\u001b[2Jb\",\"list\":[\"\\u009b\\u007f\","
		"\"\\u00fcber \\u20ac\"]}}",
		&kind, &body);
	const json_t *list = json_object_get(body, "list");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(body, "name")), "a?[2Jb");
	assert_string_equal(json_string_value(json_array_get(list, 0)), "??");
	assert_string_equal(json_string_value(json_array_get(list, 1)), "\xc3\xbc"
									"ber \xe2\x82\xac");
	json_decref(answer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(command_and_arguments_are_read),
		cmocka_unit_test(arguments_may_be_left_out),
		cmocka_unit_test(what_is_no_request_is_refused),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(brackets_in_strings_do_not_count),
		cmocka_unit_test(too_long_a_line_is_refused),
		cmocka_unit_test(random_lines_do_no_harm),
		cmocka_unit_test(codes_and_names_belong_together),
		cmocka_unit_test(failures_have_codes),
		cmocka_unit_test(own_requests_are_understood),
		cmocka_unit_test(errors_with_strange_bytes_are_sent),
		cmocka_unit_test(answers_hold_no_control_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
