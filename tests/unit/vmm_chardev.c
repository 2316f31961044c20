/* A line on pipes, files and ptys: nothing is lost, and who does not read stops no more than he must. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "chardev_fixture.h"
#include "vmm/base/thread.h"

static void use_stdin_file(const char *path)
{
	int fd = open(path, O_RDONLY);

	dup2(fd, STDIN_FILENO);
	close(fd);
}

static void full_queue_goes_out_though_muted(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];

	(void)state;
	line_use_pipes();
	fcntl(line.out, F_SETPIPE_SZ, 2 * CHARDEV_QUEUE_SIZE);
	line_create(SERIAL_STDIO, NULL);
	chardev_mute(line.chardev);
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
	line_run_for(20);
	assert_int_equal(chardev_write(line.chardev, data, 1), 0);
	line_run_for(20);
	assert_int_equal(line.writable_calls, 1);
	assert_int_equal(chardev_write(line.chardev, data, 1), 1);
}

static void refused_input_is_offered_again(void **state)
{
	(void)state;
	line_use_pipes();
	line_create(SERIAL_STDIO, NULL);
	line.accepts = 3;
	line_type("abcdef");
	line_assert_received("abc");
	line.accepts = 2;
	chardev_resume_input(line.chardev);
	line_run_for(20);
	line_assert_received("abcde");
	line.accepts = 10;
	chardev_resume_input(line.chardev);
	line_type("g");
	line_assert_received("abcdefg");
}

static void count_escape(void *opaque)
{
	++*(unsigned *)opaque;
}

static void pipes_have_no_escape_keys(void **state)
{
	unsigned escapes = 0;

	(void)state;
	line_use_pipes();
	line_create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, count_escape, &escapes);
	line_type("\x01"
		  "c");
	line_assert_received("\x01"
			     "c");
	assert_int_equal(escapes, 0);
}

static void end_of_input_is_no_trouble(void **state)
{
	(void)state;
	line_use_pipes();
	line_create(SERIAL_STDIO, NULL);
	line_type("last");
	close(line.far);
	line.far = -1;
	line_run_for(20);
	line_assert_received("last");
	line_write("still here");
	line_run_for(20);
	assert_string_equal(line_output_of(line.out), "still here");
}

static void input_from_a_file_is_read(void **state)
{
	char path[] = "/tmp/ebb-test-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, "commands\n", 9), 9);
	close(fd);
	line_use_pipes();
	use_stdin_file(path);
	unlink(path);
	line_create(SERIAL_STDIO, NULL);
	line_run_for(30);
	line_assert_received("commands\n");
}

static void null_device_as_input_is_no_trouble(void **state)
{
	(void)state;
	line_use_pipes();
	use_stdin_file("/dev/null");
	line_create(SERIAL_STDIO, NULL);
	line_write("x");
	line_run_for(20);
	line_assert_received("");
	assert_string_equal(line_output_of(line.out), "x");
}

static void full_pipe_holds_the_guest_back(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	static uint8_t sink[1 << 17];
	size_t written = 0;
	size_t read_back = 0;

	(void)state;
	line_use_pipes();
	line_create(SERIAL_STDIO, NULL);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	for (int i = 0; i < 20; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		line_run_for(5);
	}
	assert_true(written < 20 * sizeof(data));
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), 0);
	line.writable_calls = 0;
	fcntl(line.out, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 100 && read_back < written; i++) {
		ssize_t count = read(line.out, sink, sizeof(sink));

		read_back += count > 0 ? (size_t)count : 0;
		line_run_for(5);
	}
	assert_int_equal(read_back, written);
	assert_true(line.writable_calls >= 1);
}

static void *read_slowly(void *opaque)
{
	size_t *total = opaque;
	char data[8192];
	ssize_t count;

	while ((count = read(line.out, data, sizeof(data))) > 0) {
		*total += (size_t)count;
		usleep(5000);
	}
	return NULL;
}

static void flush_loses_nothing(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	size_t written = 0;
	size_t total = 0;
	pthread_t reader;

	(void)state;
	line_use_pipes();
	fcntl(line.out, F_SETPIPE_SZ, 4096);
	line_create(SERIAL_STDIO, NULL);
	for (int i = 0; i < 3; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		line_run_for(2);
	}
	assert_int_equal(thread_start(&reader, "reader", read_slowly, &total), 0);
	line_destroy();
	line_put_stdio_back();
	pthread_join(reader, NULL);
	assert_int_equal(total, written);
}

static void lost_reader_does_not_stop_the_guest(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	size_t written = 0;

	(void)state;
	line_use_pipes();
	line_create(SERIAL_STDIO, NULL);
	close(line.out);
	line.out = -1;
	for (int i = 0; i < 10; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		line_run_for(5);
	}
	assert_int_equal(written, 10 * sizeof(data));
}

static void nothing_takes_everything(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];

	(void)state;
	line_create(SERIAL_NONE, NULL);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
		line_run_for(2);
	}
	assert_null(chardev_path(line.chardev));
}

static void file_is_appended_to(void **state)
{
	char path[] = "/tmp/ebb-test-XXXXXX";
	char text[32] = {0};
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, "before ", 7), 7);
	line_create(SERIAL_FILE, path);
	line_write("after");
	line_destroy();
	assert_int_equal(pread(fd, text, sizeof(text), 0), 12);
	assert_string_equal(text, "before after");
	close(fd);
	unlink(path);
}

static void file_that_cannot_be_opened_is_an_error(void **state)
{
	struct error error;

	(void)state;
	assert_int_equal(line_try(SERIAL_FILE, "/nowhere/x", &error), -ENOENT);
	assert_non_null(strstr(error.text, "/nowhere/x"));
}

static void pty_is_connected_and_left(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	int fd;

	(void)state;
	line_create(SERIAL_PTY, NULL);
	/* Nobody there: the guest is not held back. */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
		line_run_for(5);
	}
	for (int visit = 0; visit < 2; visit++) {
		fd = open(chardev_path(line.chardev), O_RDWR | O_NOCTTY);
		assert_true(fd >= 0);
		line_write("hello\n");
		line_run_for(20);
		assert_string_equal(line_output_of(fd), "hello\n");
		assert_int_equal(write(fd, "hi\r", 3), 3);
		line_run_for(300);
		line_assert_received("hi\r");
		line.received_length = 0;
		close(fd);
		line_run_for(20);
	}
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
	line_run_for(5);
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
}

static void idle_line_sleeps(void **state)
{
	struct timespec before;
	struct timespec after;
	int fd;

	(void)state;
	line_create(SERIAL_PTY, NULL);
	fd = open(chardev_path(line.chardev), O_RDWR | O_NOCTTY);
	line_write("x");
	line_run_for(20);
	close(fd);
	line_run_for(20);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	line_run_for(500);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000 +
			    (after.tv_nsec - before.tv_nsec) / 1000000 <
		    50);
}

#define LINE_TEST(test) cmocka_unit_test_setup_teardown(test, line_setup, line_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LINE_TEST(full_queue_goes_out_though_muted),
		LINE_TEST(refused_input_is_offered_again),
		LINE_TEST(pipes_have_no_escape_keys),
		LINE_TEST(end_of_input_is_no_trouble),
		LINE_TEST(input_from_a_file_is_read),
		LINE_TEST(null_device_as_input_is_no_trouble),
		LINE_TEST(full_pipe_holds_the_guest_back),
		LINE_TEST(flush_loses_nothing),
		LINE_TEST(lost_reader_does_not_stop_the_guest),
		LINE_TEST(nothing_takes_everything),
		LINE_TEST(file_is_appended_to),
		LINE_TEST(file_that_cannot_be_opened_is_an_error),
		LINE_TEST(pty_is_connected_and_left),
		LINE_TEST(idle_line_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
