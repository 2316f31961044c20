/* Operations of the control socket's clients, from start to end: files, resuming, progress. */
#include <errno.h>
#include <fcntl.h>
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

#include "fake_machine.h"
#include "vmm/base/clock.h"
#include "vmm/control_operation.h"

static const struct control_host host = {.name = "web"};
static struct control_operation operation;
static struct error error;
static json_t *answer;
static char directory[64];
static char path[128];

static int setup(void **state)
{
	(void)state;
	fake_machine_init();
	operation = (struct control_operation){0};
	memset(&error, 0, sizeof(error));
	answer = NULL;
	strcpy(directory, "/tmp/ebb-test-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/dump", directory);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(answer);
	unlink(path);
	return rmdir(directory);
}

static int start(const char *name, const char *argument)
{
	struct control_request request = {.command = name};

	if (argument)
		request.arguments[request.argument_count++] = argument;
	return control_operation_start(&operation, &host, commands_find(name), &request, &answer,
				       &error);
}

static enum control_code finish(int result)
{
	struct swap_status status;

	fake_machine_finish(result);
	swap_get_status(NULL, &status);
	return control_operation_finish(&operation, &host, &status, &answer, &error);
}

static const char *text(const char *key)
{
	return json_string_value(json_object_get(answer, key));
}

static void assert_says(const char *part)
{
	if (!strstr(error.text, part))
		fail_msg("\"%s\" does not say \"%s\"", error.text, part);
}

static void dump_makes_a_file_for_its_owner_alone(void **state)
{
	struct stat file;

	(void)state;
	assert_int_equal(start("dump-memory", path), 0);
	assert_int_equal(stat(path, &file), 0);
	assert_int_equal(file.st_mode & 07777, 0600);
	assert_int_equal(finish(0), CONTROL_OK);
	assert_string_equal(text("file"), path);
	assert_string_equal(text("state"), "disabled");
	assert_int_equal(access(path, F_OK), 0);
}

static void existing_file_is_refused_and_kept(void **state)
{
	(void)state;
	close(open(path, O_CREAT | O_WRONLY, 0644));
	assert_int_equal(start("dump-memory", path), -EEXIST);
	assert_says("exists");
	assert_says(path);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(fake.starts, 0);
}

static void links_are_not_followed(void **state)
{
	(void)state;
	assert_int_equal(symlink("/tmp/ebb-test-elsewhere", path), 0);
	assert_int_equal(start("dump-memory", path), -EEXIST);
	assert_int_equal(access("/tmp/ebb-test-elsewhere", F_OK), -1);
}

static void paths_that_are_not_absolute_are_refused(void **state)
{
	char longest[5000];

	(void)state;
	assert_int_equal(start("dump-memory", "dump"), -ERANGE);
	assert_int_equal(start("dump-memory", ""), -ERANGE);
	memset(longest, '/', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(start("dump-memory", longest), -ERANGE);
	assert_int_equal(start("dump-memory", "/no/such/directory/dump"), -ENOENT);
	assert_says("/no/such/directory/dump");
}

static void refused_dump_leaves_no_file(void **state)
{
	(void)state;
	fake.refusal = -EBUSY;
	assert_int_equal(start("dump-memory", path), -EBUSY);
	assert_int_equal(access(path, F_OK), -1);
	assert_null(operation.command);
}

static void failed_dump_leaves_no_file(void **state)
{
	(void)state;
	assert_int_equal(start("dump-memory", path), 0);
	assert_int_equal(finish(-ENOSPC), CONTROL_NO_SPACE);
	assert_says("removed");
	assert_int_equal(access(path, F_OK), -1);
}

static void cancelled_dump_leaves_no_file(void **state)
{
	(void)state;
	assert_int_equal(start("dump-memory", path), 0);
	swap_cancel(NULL, NULL);
	assert_int_equal(finish(-ECANCELED), CONTROL_CANCELLED);
	assert_says("dump-memory was cancelled after 25 of 100 pages");
	assert_int_equal(access(path, F_OK), -1);
}

static void abandoned_dump_leaves_no_file(void **state)
{
	(void)state;
	assert_int_equal(start("dump-memory", path), 0);
	control_operation_abandon(&operation);
	assert_int_equal(access(path, F_OK), -1);
}

static void file_that_took_the_name_is_kept(void **state)
{
	char other[140];

	(void)state;
	snprintf(other, sizeof(other), "%s.other", path);
	close(open(other, O_CREAT | O_WRONLY, 0644));
	assert_int_equal(start("dump-memory", path), 0);
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(finish(-EIO), CONTROL_FAILED);
	assert_int_equal(access(path, F_OK), 0);
}

static void prefetch_resumes_when_the_working_set_is_back(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	fake.swap_state = SWAP_OUT;
	fake.pages_swapped = 90;
	fake.working_set = 10;
	assert_int_equal(start("resume --prefetch", NULL), 0);
	assert_int_equal(fake.operation, SWAP_OP_WORKING_SET);
	assert_int_equal(fake.state, MACHINE_PAUSED);
	assert_int_equal(finish(0), CONTROL_OK);
	assert_int_equal(fake.state, MACHINE_RUNNING);
	assert_string_equal(text("state"), "running");
	assert_string_equal(json_string_value(json_object_get(json_object_get(answer, "prefetch"),
							      "operation")),
			    "working_set");
}

static void prefetch_of_nothing_just_resumes(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	fake.swap_state = SWAP_OUT;
	fake.pages_swapped = 90;
	assert_int_equal(start("resume --prefetch", NULL), 1);
	assert_int_equal(fake.starts, 0);
	assert_int_equal(fake.state, MACHINE_RUNNING);
	assert_string_equal(text("state"), "running");
	assert_true(json_is_null(json_object_get(answer, "prefetch")));
}

static void prefetch_of_a_running_machine_is_refused(void **state)
{
	(void)state;
	assert_int_equal(start("resume --prefetch", NULL), -EINVAL);
	assert_says("resume --prefetch: the machine is running");
}

static void cancelled_prefetch_leaves_the_machine_paused(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	fake.swap_state = SWAP_OUT;
	fake.pages_swapped = 90;
	fake.working_set = 10;
	assert_int_equal(start("resume --prefetch", NULL), 0);
	swap_cancel(NULL, NULL);
	assert_int_equal(finish(-ECANCELED), CONTROL_CANCELLED);
	assert_says("resume --prefetch was cancelled");
	assert_says("still paused");
	assert_int_equal(fake.state, MACHINE_PAUSED);
}

static void failed_prefetch_leaves_the_machine_paused(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	fake.swap_state = SWAP_OUT;
	fake.pages_swapped = 90;
	fake.working_set = 10;
	assert_int_equal(start("resume --prefetch", NULL), 0);
	assert_int_equal(finish(-EIO), CONTROL_FAILED);
	assert_says("resume --prefetch: ");
	assert_says("still paused");
	assert_int_equal(fake.state, MACHINE_PAUSED);
}

static void prefetch_of_a_machine_that_was_resumed_meanwhile_is_done(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	fake.swap_state = SWAP_OUT;
	fake.pages_swapped = 90;
	fake.working_set = 10;
	assert_int_equal(start("resume --prefetch", NULL), 0);
	fake.state = MACHINE_RUNNING;
	assert_int_equal(finish(0), CONTROL_OK);
	assert_string_equal(text("state"), "running");
}

static void operation_of_the_policy_is_named(void **state)
{
	(void)state;
	fake.operation = SWAP_OP_TRIM;
	assert_int_equal(start("dump-memory", path), -EBUSY);
	assert_says("`swap trim` is running, started by the automatic policy");
	assert_int_equal(access(path, F_OK), -1);
}

static void progress_counts_bytes(void **state)
{
	struct swap_status status;
	json_t *progress;

	(void)state;
	assert_int_equal(start("swap out", NULL), 0);
	operation.rate.last_ns -= NS_PER_SEC;
	swap_get_status(NULL, &status);
	progress = control_operation_progress(&operation, &status);
	assert_int_equal(json_integer_value(json_object_get(progress, "bytes_done")), 25 * 4096);
	assert_int_equal(json_integer_value(json_object_get(progress, "bytes_total")), 100 * 4096);
	assert_true(json_integer_value(json_object_get(progress, "rate_bytes_per_s")) > 0);
	assert_true(json_integer_value(json_object_get(progress, "eta_ns")) > 0);
	json_decref(progress);
}

static void rate_is_unknown_before_anything_was_done(void **state)
{
	struct rate rate;

	(void)state;
	rate_start(&rate, NS_PER_SEC);
	assert_int_equal(rate_per_second(&rate), 0);
	assert_true(rate_time_for(&rate, 5) == RATE_UNKNOWN);
	assert_int_equal(rate_time_for(&rate, 0), 0);
	rate_note(&rate, 2 * NS_PER_SEC, 0);
	assert_true(rate_time_for(&rate, 5) == RATE_UNKNOWN);
}

static void rate_of_steady_work_is_its_pace(void **state)
{
	struct rate rate;

	(void)state;
	rate_start(&rate, 0);
	for (uint64_t i = 1; i <= 50; i++)
		rate_note(&rate, i * 200 * NS_PER_MS, i * 200);
	assert_in_range(rate_per_second(&rate), 999, 1001);
	assert_in_range(rate_time_for(&rate, 5000), 5 * NS_PER_SEC - NS_PER_MS,
			5 * NS_PER_SEC + NS_PER_MS);
}

static void rate_follows_a_change_of_pace(void **state)
{
	struct rate rate;
	uint64_t done = 0;

	(void)state;
	rate_start(&rate, 0);
	for (uint64_t i = 1; i <= 200; i++) {
		done += i <= 100 ? 1000 : 10;
		rate_note(&rate, i * 200 * NS_PER_MS, done);
	}
	assert_true(rate_per_second(&rate) < 100);
}

static void rate_survives_a_clock_that_stands_and_work_that_shrinks(void **state)
{
	struct rate rate;

	(void)state;
	rate_start(&rate, 1000);
	rate_note(&rate, 1000, 5);
	rate_note(&rate, 2000, 100);
	rate_note(&rate, 3000, 50);
	assert_true(rate_per_second(&rate) > 0);
	rate_note(&rate, 4000, UINT64_MAX);
	rate_note(&rate, 4001, 0);
	assert_true(rate_per_second(&rate) <= INT64_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dump_makes_a_file_for_its_owner_alone),
		TEST(existing_file_is_refused_and_kept),
		TEST(links_are_not_followed),
		TEST(paths_that_are_not_absolute_are_refused),
		TEST(refused_dump_leaves_no_file),
		TEST(failed_dump_leaves_no_file),
		TEST(cancelled_dump_leaves_no_file),
		TEST(abandoned_dump_leaves_no_file),
		TEST(file_that_took_the_name_is_kept),
		TEST(prefetch_resumes_when_the_working_set_is_back),
		TEST(prefetch_of_nothing_just_resumes),
		TEST(prefetch_of_a_running_machine_is_refused),
		TEST(cancelled_prefetch_leaves_the_machine_paused),
		TEST(failed_prefetch_leaves_the_machine_paused),
		TEST(prefetch_of_a_machine_that_was_resumed_meanwhile_is_done),
		TEST(operation_of_the_policy_is_named),
		TEST(progress_counts_bytes),
		cmocka_unit_test(rate_is_unknown_before_anything_was_done),
		cmocka_unit_test(rate_of_steady_work_is_its_pace),
		cmocka_unit_test(rate_follows_a_change_of_pace),
		cmocka_unit_test(rate_survives_a_clock_that_stands_and_work_that_shrinks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
