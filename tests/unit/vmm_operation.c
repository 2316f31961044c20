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
#include "vmm/control/control_operation.h"
#include "vmm/control/dump_file.h"

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

/* As the client does it: the file comes as a descriptor. */
static int start_dump(void)
{
	struct control_request request = {
		.command = "dump-memory",
		.arguments = {path},
		.argument_count = 1,
		.file = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600),
	};
	int result = control_operation_start(&operation, &host, commands_find("dump-memory"),
					     &request, &answer, &error);

	close(request.file);
	return result;
}

static off_t size_of(const char *name)
{
	struct stat info;

	assert_int_equal(stat(name, &info), 0);
	return info.st_size;
}

static void dump_is_written_to_the_clients_file(void **state)
{
	(void)state;
	assert_int_equal(start_dump(), 0);
	assert_int_equal(finish(0), CONTROL_OK);
	assert_string_equal(text("file"), path);
	assert_string_equal(text("state"), "disabled");
	assert_int_equal(size_of(path), 3);
}

static void dump_without_a_file_is_refused(void **state)
{
	(void)state;
	assert_int_equal(start("dump-memory", path), -ERANGE);
	assert_says("has to come with the request");
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(fake.starts, 0);
}

static void dump_into_what_is_no_empty_writable_file_is_refused(void **state)
{
	struct control_request request = {
		.command = "dump-memory", .arguments = {path}, .argument_count = 1};
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	request.file = ends[1];
	assert_int_equal(control_operation_start(&operation, &host, commands_find("dump-memory"),
						 &request, &answer, &error),
			 -ERANGE);
	close(ends[0]);
	close(ends[1]);
	request.file = open(path, O_CREAT | O_RDWR, 0600);
	assert_int_equal(write(request.file, "mine", 4), 4);
	assert_int_equal(control_operation_start(&operation, &host, commands_find("dump-memory"),
						 &request, &answer, &error),
			 -ERANGE);
	assert_says("no empty, writable file");
	assert_int_equal(ftruncate(request.file, 0), 0);
	close(request.file);
	request.file = open(path, O_RDONLY);
	assert_int_equal(control_operation_start(&operation, &host, commands_find("dump-memory"),
						 &request, &answer, &error),
			 -ERANGE);
	close(request.file);
	assert_int_equal(fake.starts, 0);
}

static void refused_dump_keeps_no_descriptor(void **state)
{
	(void)state;
	fake.refusal = -EBUSY;
	assert_int_equal(start_dump(), -EBUSY);
	assert_null(operation.command);
	assert_int_equal(operation.file, 0);
	assert_null(operation.path);
}

static void failed_dump_is_emptied(void **state)
{
	(void)state;
	assert_int_equal(start_dump(), 0);
	assert_int_equal(finish(-ENOSPC), CONTROL_NO_SPACE);
	assert_says("removed");
	assert_int_equal(size_of(path), 0);
}

static void cancelled_dump_is_emptied(void **state)
{
	(void)state;
	assert_int_equal(start_dump(), 0);
	swap_cancel(NULL, NULL);
	assert_int_equal(finish(-ECANCELED), CONTROL_CANCELLED);
	assert_says("dump-memory was cancelled after 25 of 100 pages");
	assert_int_equal(size_of(path), 0);
}

static void abandoned_dump_is_emptied(void **state)
{
	(void)state;
	assert_int_equal(start_dump(), 0);
	control_operation_abandon(&operation);
	assert_int_equal(size_of(path), 0);
}

/* ---- the client's side ---- */

static struct dump_file *create(int expected)
{
	struct dump_file *file = NULL;
	int fd = -1;

	assert_int_equal(dump_file_create(path, &file, &fd, &error), expected);
	if (fd >= 0)
		close(fd);
	return file;
}

static void dump_file_is_for_its_owner_alone(void **state)
{
	struct stat info;

	(void)state;
	dump_file_keep(create(0));
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 07777, 0600);
}

static void existing_file_is_refused_and_kept(void **state)
{
	(void)state;
	close(open(path, O_CREAT | O_WRONLY, 0644));
	create(-EEXIST);
	assert_says("exists");
	assert_says(path);
	assert_int_equal(access(path, F_OK), 0);
}

static void links_are_not_followed(void **state)
{
	(void)state;
	assert_int_equal(symlink("/tmp/ebb-test-elsewhere", path), 0);
	create(-EEXIST);
	assert_int_equal(access("/tmp/ebb-test-elsewhere", F_OK), -1);
}

static void paths_that_are_not_absolute_are_refused(void **state)
{
	struct dump_file *file;
	char longest[5000];
	int fd;

	(void)state;
	assert_int_equal(dump_file_create("dump", &file, &fd, &error), -ERANGE);
	assert_int_equal(dump_file_create("", &file, &fd, &error), -ERANGE);
	memset(longest, '/', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(dump_file_create(longest, &file, &fd, &error), -ERANGE);
	assert_int_equal(dump_file_create("/no/such/directory/dump", &file, &fd, &error), -ENOENT);
	assert_says("/no/such/directory/dump");
}

static void discarded_file_is_gone(void **state)
{
	(void)state;
	dump_file_discard(create(0));
	assert_int_equal(access(path, F_OK), -1);
}

static void file_that_took_the_name_is_kept(void **state)
{
	struct dump_file *file = create(0);
	char other[140];

	(void)state;
	snprintf(other, sizeof(other), "%s.other", path);
	close(open(other, O_CREAT | O_WRONLY, 0644));
	assert_int_equal(rename(other, path), 0);
	dump_file_discard(file);
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

/* The machine ends the operation that a reset meets. */
static void operation_that_a_reset_ends_says_so(void **state)
{
	(void)state;
	start("swap out", NULL);
	atomic_fetch_add(&fake.resets, 1);
	swap_cancel(NULL, NULL);
	assert_int_equal(finish(-ECANCELED), CONTROL_CANCELLED);
	assert_says("swap out was cancelled by the machine's reset after 25 of 100 pages");
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
		TEST(dump_is_written_to_the_clients_file),
		TEST(dump_without_a_file_is_refused),
		TEST(dump_into_what_is_no_empty_writable_file_is_refused),
		TEST(refused_dump_keeps_no_descriptor),
		TEST(failed_dump_is_emptied),
		TEST(cancelled_dump_is_emptied),
		TEST(operation_that_a_reset_ends_says_so),
		TEST(abandoned_dump_is_emptied),
		TEST(dump_file_is_for_its_owner_alone),
		TEST(existing_file_is_refused_and_kept),
		TEST(links_are_not_followed),
		TEST(paths_that_are_not_absolute_are_refused),
		TEST(discarded_file_is_gone),
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
