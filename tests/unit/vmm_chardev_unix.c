/* Lines on Unix sockets: listening, programs that come and go. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "chardev_fixture.h"
#include "vmm/base/unix_socket.h"

static char directory[32];
static char path[40];
static struct error error;

static int setup(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/ebb-line-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/s", directory);
	return line_setup(state);
}

static int teardown(void **state)
{
	line_teardown(state);
	unlink(path);
	assert_int_equal(rmdir(directory), 0);
	return 0;
}

static int create(void)
{
	return line_try(SERIAL_UNIX, path, &error);
}

/* A program connects, and the line knows. */
static int visit(void)
{
	int fd = unix_socket_connect(path);

	assert_true(fd >= 0);
	line_run_for(20);
	return fd;
}

static void say(const char *text)
{
	assert_int_equal(line_write(text), strlen(text));
	line_run_for(20);
}

static void assert_reads(int fd, const char *text)
{
	char data[64] = "";

	assert_int_equal(recv(fd, data, sizeof(data) - 1, 0), strlen(text));
	assert_string_equal(data, text);
}

static void bytes_go_both_ways(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(create(), 0);
	assert_string_equal(chardev_path(line.chardev), path);
	fd = visit();
	say("to you");
	assert_reads(fd, "to you");
	assert_int_equal(send(fd, "to me", 5, 0), 5);
	line_assert_received("to me");
	close(fd);
}

static void programs_come_and_go(void **state)
{
	(void)state;
	assert_int_equal(create(), 0);
	for (int i = 0; i < 3; i++) {
		int fd;

		say("nobody hears this");
		fd = visit();
		say("hello");
		assert_reads(fd, "hello");
		close(fd);
		line_run_for(20);
	}
}

static void one_program_at_a_time(void **state)
{
	int first, second;

	(void)state;
	assert_int_equal(create(), 0);
	first = visit();
	second = visit();
	assert_int_equal(recv(second, &(char){0}, 1, 0), 0);
	say("still here");
	assert_reads(first, "still here");
	close(first);
	close(second);
}

static void who_sends_no_more_may_still_read(void **state)
{
	int fd;

	(void)state;
	assert_int_equal(create(), 0);
	fd = visit();
	assert_int_equal(send(fd, "x", 1, 0), 1);
	shutdown(fd, SHUT_WR);
	line_run_for(20);
	say("answer");
	assert_reads(fd, "answer");
	close(fd);
	fd = visit(); /* the next one finds the line free */
	say("welcome");
	assert_reads(fd, "welcome");
	close(fd);
}

static void a_program_that_does_not_read_holds_the_guest_back(void **state)
{
	static uint8_t data[4096];
	size_t queued = 0, count = 1, arrived = 0;
	int fd;

	(void)state;
	assert_int_equal(create(), 0);
	fd = visit();
	while (count) {
		count = chardev_write(line.chardev, data, sizeof(data));
		queued += count;
		line_run_for(5);
		assert_true(queued < 64u << 20);
	}
	while (arrived < queued) {
		ssize_t got = recv(fd, data, sizeof(data), MSG_DONTWAIT);

		if (got < 0)
			line_run_for(5);
		else
			arrived += (size_t)got;
	}
	close(fd);
}

static void the_socket_is_private_and_removed(void **state)
{
	struct stat info;

	(void)state;
	assert_int_equal(create(), 0);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	line_destroy();
	assert_int_equal(access(path, F_OK), -1);
}

static void a_socket_that_is_not_ours_any_more_is_left_alone(void **state)
{
	struct unix_listener other;

	(void)state;
	assert_int_equal(create(), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(unix_listener_open(&other, path, &error), 0);
	line_destroy();
	assert_int_equal(access(path, F_OK), 0);
	unix_listener_close(&other);
}

static void a_live_socket_is_refused_and_a_stale_one_replaced(void **state)
{
	struct unix_listener other;

	(void)state;
	assert_int_equal(unix_listener_open(&other, path, &error), 0);
	assert_int_equal(create(), -EADDRINUSE);
	assert_non_null(strstr(error.text, path));
	close(other.fd); /* as if it had been killed: the file stays */
	assert_int_equal(create(), 0);
}

static void what_is_no_socket_is_refused(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(create(), -EEXIST);
	assert_non_null(strstr(error.text, "no socket"));
}

static void impossible_paths_are_named(void **state)
{
	char long_path[200];
	struct unix_listener other;

	(void)state;
	assert_int_equal(unix_listener_open(&other, "/nowhere/at/all", &error), -ENOENT);
	assert_non_null(strstr(error.text, "/nowhere/at/all"));
	snprintf(long_path, sizeof(long_path), "/tmp/%0108d", 0);
	assert_int_equal(unix_listener_open(&other, long_path, &error), -ENAMETOOLONG);
	assert_int_equal(unix_socket_connect(long_path), -ENAMETOOLONG);
}

int main(void)
{
#define LINE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		LINE_TEST(bytes_go_both_ways),
		LINE_TEST(programs_come_and_go),
		LINE_TEST(one_program_at_a_time),
		LINE_TEST(who_sends_no_more_may_still_read),
		LINE_TEST(a_program_that_does_not_read_holds_the_guest_back),
		LINE_TEST(the_socket_is_private_and_removed),
		LINE_TEST(a_socket_that_is_not_ours_any_more_is_left_alone),
		LINE_TEST(a_live_socket_is_refused_and_a_stale_one_replaced),
		LINE_TEST(what_is_no_socket_is_refused),
		LINE_TEST(impossible_paths_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
