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

#include "vmm/base/clock.h"
#include "vmm/base/unix_socket.h"
#include "vmm/machine/chardev.h"

static struct {
	struct event_loop *loop;
	struct event_source *timer;
	struct chardev *chardev;
	char directory[32];
	char path[40];
	char received[256];
	size_t received_length;
} line;

static struct error error;

static size_t on_receive(void *opaque, const uint8_t *data, size_t length)
{
	(void)opaque;
	assert_true(line.received_length + length <= sizeof(line.received));
	memcpy(line.received + line.received_length, data, length);
	line.received_length += length;
	return length;
}

static void on_timer(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
	event_loop_stop(line.loop);
}

static void run_for(unsigned milliseconds)
{
	event_source_arm(line.timer, milliseconds * NS_PER_MS, 0);
	assert_int_equal(event_loop_run(line.loop), 0);
}

static int setup(void **state)
{
	(void)state;
	memset(&line, 0, sizeof(line));
	snprintf(line.directory, sizeof(line.directory), "/tmp/ebb-line-XXXXXX");
	assert_non_null(mkdtemp(line.directory));
	snprintf(line.path, sizeof(line.path), "%s/s", line.directory);
	assert_int_equal(event_loop_create(&line.loop), 0);
	return event_loop_add_timer(line.loop, on_timer, NULL, &line.timer);
}

static int teardown(void **state)
{
	(void)state;
	chardev_destroy(line.chardev);
	event_loop_destroy(line.loop);
	unlink(line.path);
	assert_int_equal(rmdir(line.directory), 0);
	return 0;
}

static int create(void)
{
	const struct chardev_client client = {.receive = on_receive};
	int result =
		chardev_create(SERIAL_UNIX, line.path, "console", line.loop, &line.chardev, &error);

	if (!result)
		chardev_set_client(line.chardev, &client);
	return result;
}

/* A program connects, and the line knows. */
static int visit(void)
{
	int fd = unix_socket_connect(line.path);

	assert_true(fd >= 0);
	run_for(20);
	return fd;
}

static void say(const char *text)
{
	assert_int_equal(chardev_write(line.chardev, (const uint8_t *)text, strlen(text)),
			 strlen(text));
	run_for(20);
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
	assert_string_equal(chardev_path(line.chardev), line.path);
	fd = visit();
	say("to you");
	assert_reads(fd, "to you");
	assert_int_equal(send(fd, "to me", 5, 0), 5);
	run_for(20);
	assert_int_equal(line.received_length, 5);
	assert_memory_equal(line.received, "to me", 5);
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
		run_for(20);
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
	run_for(20);
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
		run_for(5);
		assert_true(queued < 64u << 20);
	}
	while (arrived < queued) {
		ssize_t got = recv(fd, data, sizeof(data), MSG_DONTWAIT);

		if (got < 0)
			run_for(5);
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
	assert_int_equal(stat(line.path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	chardev_destroy(line.chardev);
	line.chardev = NULL;
	assert_int_equal(access(line.path, F_OK), -1);
}

static void a_socket_that_is_not_ours_any_more_is_left_alone(void **state)
{
	struct unix_listener other;

	(void)state;
	assert_int_equal(create(), 0);
	assert_int_equal(unlink(line.path), 0);
	assert_int_equal(unix_listener_open(&other, line.path, &error), 0);
	chardev_destroy(line.chardev);
	line.chardev = NULL;
	assert_int_equal(access(line.path, F_OK), 0);
	unix_listener_close(&other);
}

static void a_live_socket_is_refused_and_a_stale_one_replaced(void **state)
{
	struct unix_listener other;

	(void)state;
	assert_int_equal(unix_listener_open(&other, line.path, &error), 0);
	assert_int_equal(create(), -EADDRINUSE);
	assert_non_null(strstr(error.text, line.path));
	close(other.fd); /* as if it had been killed: the file stays */
	assert_int_equal(create(), 0);
}

static void what_is_no_socket_is_refused(void **state)
{
	int fd = open(line.path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(create(), -EEXIST);
	assert_non_null(strstr(error.text, "no socket"));
}

static void impossible_paths_are_named(void **state)
{
	char path[200];
	struct unix_listener other;

	(void)state;
	assert_int_equal(unix_listener_open(&other, "/nowhere/at/all", &error), -ENOENT);
	assert_non_null(strstr(error.text, "/nowhere/at/all"));
	snprintf(path, sizeof(path), "/tmp/%0108d", 0);
	assert_int_equal(unix_listener_open(&other, path, &error), -ENAMETOOLONG);
	assert_int_equal(unix_socket_connect(path), -ENAMETOOLONG);
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
