/* `ebb check --json`: what programs read of it. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/check/check.h"

/* Runs the command in a child and returns what it printed, with its exit status. */
static json_t *check_json(const char *swap_dir, int *status)
{
	char words[][16] = {"check", "--json", "--swap-dir"}, dir[64];
	char *argv[] = {words[0], words[1], words[2], dir, NULL};
	int out = memfd_create("out", MFD_CLOEXEC);
	json_t *root;
	pid_t child;

	snprintf(dir, sizeof(dir), "%s", swap_dir);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		dup2(out, STDOUT_FILENO);
		exit(check_main(4, argv));
	}
	assert_int_equal(waitpid(child, status, 0), child);
	assert_true(WIFEXITED(*status));
	*status = WEXITSTATUS(*status);
	lseek(out, 0, SEEK_SET);
	root = json_loadfd(out, 0, NULL);
	close(out);
	assert_non_null(root);
	return root;
}

static json_t *find(json_t *root, const char *name)
{
	json_t *checks = json_object_get(root, "checks"), *check;
	size_t i;

	json_array_foreach(checks, i,
			   check) if (!strcmp(json_string_value(json_object_get(check, "name")),
					      name)) return check;
	return NULL;
}

static void test_every_check_has_the_documented_members(void **state)
{
	int status;
	json_t *root = check_json("/tmp", &status), *checks, *check;
	size_t i;

	(void)state;
	assert_true(json_is_boolean(json_object_get(root, "can_run")));
	assert_true(json_is_boolean(json_object_get(root, "can_swap")));
	assert_true(json_is_boolean(json_object_get(root, "stock_kernels")));
	assert_true(json_is_number(json_object_get(root, "ring0_mips")));
	checks = json_object_get(root, "checks");
	assert_true(json_array_size(checks) > 0);
	json_array_foreach(checks, i, check)
	{
		json_t *fix = json_object_get(check, "fix");

		assert_true(json_is_string(json_object_get(check, "name")));
		assert_true(json_is_boolean(json_object_get(check, "ok")));
		assert_true(json_is_boolean(json_object_get(check, "needed")));
		assert_true(json_is_string(json_object_get(check, "detail")));
		assert_true(json_is_null(fix) || json_is_string(fix));
	}
	json_decref(root);
}

static void test_the_exit_status_says_whether_all_is_there(void **state)
{
	int status;
	json_t *root = check_json("/tmp", &status);

	(void)state;
	assert_int_equal(status, json_is_true(json_object_get(root, "can_swap")) ? 0 : 1);
	json_decref(root);
}

static void test_a_missing_swap_directory_is_found_with_its_remedy(void **state)
{
	int status;
	json_t *root = check_json("/nonexistent/swap", &status), *check;

	(void)state;
	check = find(root, "swap_dir");
	assert_non_null(check);
	assert_true(json_is_false(json_object_get(check, "ok")));
	assert_non_null(
		strstr(json_string_value(json_object_get(check, "fix")), "/nonexistent/swap"));
	assert_true(json_is_false(json_object_get(root, "can_swap")));
	assert_int_equal(status, 1);
	json_decref(root);
}

static void test_names_are_unique(void **state)
{
	int status;
	json_t *root = check_json("/tmp", &status), *check;
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "checks"), i, check) assert_ptr_equal(
		find(root, json_string_value(json_object_get(check, "name"))), check);
	json_decref(root);
}

static void test_wrong_usage_is_status_2(void **state)
{
	char words[][16] = {"check", "what"};
	char *argv[] = {words[0], words[1], NULL};

	(void)state;
	assert_int_equal(check_main(2, argv), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_check_has_the_documented_members),
		cmocka_unit_test(test_the_exit_status_says_whether_all_is_there),
		cmocka_unit_test(test_a_missing_swap_directory_is_found_with_its_remedy),
		cmocka_unit_test(test_names_are_unique),
		cmocka_unit_test(test_wrong_usage_is_status_2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
