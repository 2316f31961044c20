/*
 * The serial line's host side on real terminals, pipes, files and ptys. The event loop runs on the
 * test's own thread, for a moment at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/terminal.h"
#include "vmm/base/thread.h"
#include "vmm/machine/chardev.h"

static struct {
	struct event_loop *loop;
	struct event_source *timer;
	struct chardev *chardev;
	int saved_in; /* the test's own standard input and output */
	int saved_out;
	int far;  /* a terminal's other side, or the writing end of a pipe to standard input */
	int out;  /* the reading end of a pipe from standard output */
	int near; /* the terminal, kept open */
	char received[4096];
	size_t received_length;
	size_t accepts; /* how many bytes the client still takes */
	unsigned writable_calls;
	unsigned escapes;
	unsigned quits;
} line;

static struct error error;

static size_t on_receive(void *opaque, const uint8_t *data, size_t length)
{
	size_t taken = length < line.accepts ? length : line.accepts;

	(void)opaque;
	assert_true(line.received_length + taken < sizeof(line.received));
	memcpy(line.received + line.received_length, data, taken);
	line.received_length += taken;
	line.accepts -= taken;
	return taken;
}

static void on_writable(void *opaque)
{
	(void)opaque;
	line.writable_calls++;
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
	line.accepts = SIZE_MAX;
	line.far = -1;
	line.out = -1;
	line.near = -1;
	line.saved_in = dup(STDIN_FILENO);
	line.saved_out = dup(STDOUT_FILENO);
	assert_int_equal(event_loop_create(&line.loop), 0);
	return event_loop_add_timer(line.loop, on_timer, NULL, &line.timer);
}

static void put_stdio_back(void)
{
	fflush(stdout);
	dup2(line.saved_in, STDIN_FILENO);
	dup2(line.saved_out, STDOUT_FILENO);
}

static int teardown(void **state)
{
	const int fds[] = {line.saved_in, line.saved_out, line.far, line.out, line.near};

	(void)state;
	chardev_destroy(line.chardev);
	put_stdio_back();
	event_loop_destroy(line.loop);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	return 0;
}

static void create(enum serial_kind kind, const char *path)
{
	const struct chardev_client client = {.receive = on_receive, .writable = on_writable};

	assert_int_equal(
		chardev_create(kind, path, "serial line", line.loop, &line.chardev, &error), 0);
	chardev_set_client(line.chardev, &client);
}

static void use_terminal(void)
{
	fflush(stdout);
	assert_int_equal(openpty(&line.far, &line.near, NULL, NULL, NULL), 0);
	fcntl(line.far, F_SETFL, O_NONBLOCK);
	dup2(line.near, STDIN_FILENO);
	dup2(line.near, STDOUT_FILENO);
}

static void use_pipes(void)
{
	int in[2];
	int out[2];

	fflush(stdout);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	dup2(in[0], STDIN_FILENO);
	dup2(out[1], STDOUT_FILENO);
	close(in[0]);
	close(out[1]);
	line.far = in[1];
	line.out = out[0];
}

static void use_stdin_file(const char *path)
{
	int fd = open(path, O_RDONLY);

	dup2(fd, STDIN_FILENO);
	close(fd);
}

static size_t write_text(const char *text)
{
	return chardev_write(line.chardev, (const uint8_t *)text, strlen(text));
}

static void type(const char *keys)
{
	assert_int_equal(write(line.far, keys, strlen(keys)), strlen(keys));
	run_for(30);
}

/* The kernel hands on what is typed on a pty from a thread of its own: it takes what it takes. */
static void assert_received(const char *text)
{
	for (int tries = 0; line.received_length < strlen(text) && tries < 500; tries++)
		run_for(10);
	assert_int_equal(line.received_length, strlen(text));
	assert_memory_equal(line.received, text, strlen(text));
}

/* What comes out of @fd by now. */
static const char *output_of(int fd)
{
	static char text[8192];
	struct pollfd wanted = {.fd = fd, .events = POLLIN};
	size_t length = 0;

	while (length < sizeof(text) - 1 && poll(&wanted, 1, 150) == 1) {
		ssize_t count = read(fd, text + length, sizeof(text) - 1 - length);

		if (count <= 0)
			break;
		length += (size_t)count;
	}
	text[length] = '\0';
	return text;
}

static bool is_raw(void)
{
	struct termios modes;

	assert_int_equal(tcgetattr(line.near, &modes), 0);
	return !(modes.c_lflag & (ICANON | ECHO | ISIG));
}

static void on_escape(void *opaque)
{
	(void)opaque;
	line.escapes++;
}

static void on_quit(void *opaque)
{
	(void)opaque;
	line.quits++;
}

static void terminal_is_raw_until_the_end(void **state)
{
	struct termios modes;

	(void)state;
	use_terminal();
	assert_false(is_raw());
	create(SERIAL_STDIO, NULL);
	run_for(20);
	assert_true(is_raw());
	tcgetattr(line.near, &modes);
	assert_true(modes.c_oflag & OPOST);
	chardev_destroy(line.chardev);
	line.chardev = NULL;
	assert_false(is_raw());
}

static void shell_keeps_its_blocking_descriptors(void **state)
{
	(void)state;
	use_terminal();
	create(SERIAL_STDIO, NULL);
	run_for(20);
	assert_false(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK);
	assert_false(fcntl(STDOUT_FILENO, F_GETFL) & O_NONBLOCK);
}

/* In a child: makes the terminal raw and dies by @number. */
static void die_with_a_raw_terminal(int number)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		signal(number, SIG_DFL);
		if (terminal_set_raw(STDIN_FILENO))
			_exit(1);
		raise(number);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), number);
}

static void terminal_is_restored_on_fatal_signals(void **state)
{
	(void)state;
	use_terminal();
	die_with_a_raw_terminal(SIGABRT);
	assert_false(is_raw());
	die_with_a_raw_terminal(SIGTERM);
	assert_false(is_raw());
	die_with_a_raw_terminal(SIGSEGV);
	assert_false(is_raw());
}

static void terminal_is_restored_by_exit(void **state)
{
	pid_t pid;

	(void)state;
	use_terminal();
	pid = fork();
	if (pid == 0)
		exit(terminal_set_raw(STDIN_FILENO) ? 1 : 0);
	waitpid(pid, NULL, 0);
	assert_false(is_raw());
}

static void keys_reach_the_guest(void **state)
{
	(void)state;
	use_terminal();
	create(SERIAL_STDIO, NULL);
	run_for(20);
	type("ls\r\x03\x1a");
	assert_received("ls\r\x03\x1a");
}

static void escape_keys_do_not(void **state)
{
	(void)state;
	use_terminal();
	create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, on_escape, NULL);
	chardev_set_quit(line.chardev, on_quit, NULL);
	run_for(20);
	type("a\x01"
	     "cb\x01\x01"
	     "c\x01"
	     "ad\x01x\x01ze\x01h");
	assert_received("ab\x01"
			"c\x01"
			"de");
	assert_int_equal(line.escapes, 1);
	assert_int_equal(line.quits, 1);
	run_for(20);
	assert_non_null(strstr(output_of(line.far), "Ctrl-A c console"));
}

static void mute_at_escape(void *opaque)
{
	(void)opaque;
	line.escapes++;
	chardev_mute(line.chardev);
}

static void muted_line_leaves_the_terminal_alone(void **state)
{
	char typed[16] = {0};

	(void)state;
	use_terminal();
	create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, mute_at_escape, NULL);
	run_for(20);
	type("\x01"
	     "cexit\n");
	for (int tries = 0; line.escapes == 0 && tries < 500; tries++)
		run_for(10);
	assert_false(is_raw());
	assert_int_equal(read(line.near, typed, sizeof(typed)), 5); /* the console's to read */
	write_text("from the guest");
	run_for(20);
	assert_null(strstr(output_of(line.far), "guest"));
	chardev_unmute(line.chardev);
	run_for(20);
	assert_true(is_raw());
	assert_string_equal(output_of(line.far), "from the guest");
	type("x");
	assert_received("x");
}

static void full_queue_goes_out_though_muted(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];

	(void)state;
	use_pipes();
	fcntl(line.out, F_SETPIPE_SZ, 2 * CHARDEV_QUEUE_SIZE);
	create(SERIAL_STDIO, NULL);
	chardev_mute(line.chardev);
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
	run_for(20);
	assert_int_equal(chardev_write(line.chardev, data, 1), 0);
	run_for(20);
	assert_int_equal(line.writable_calls, 1);
	assert_int_equal(chardev_write(line.chardev, data, 1), 1);
}

static void refused_input_is_offered_again(void **state)
{
	(void)state;
	use_pipes();
	create(SERIAL_STDIO, NULL);
	line.accepts = 3;
	type("abcdef");
	assert_received("abc");
	line.accepts = 2;
	chardev_resume_input(line.chardev);
	run_for(20);
	assert_received("abcde");
	line.accepts = 10;
	chardev_resume_input(line.chardev);
	type("g");
	assert_received("abcdefg");
}

static void pipes_have_no_escape_keys(void **state)
{
	(void)state;
	use_pipes();
	create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, on_escape, NULL);
	type("\x01"
	     "c");
	assert_received("\x01"
			"c");
	assert_int_equal(line.escapes, 0);
}

static void end_of_input_is_no_trouble(void **state)
{
	(void)state;
	use_pipes();
	create(SERIAL_STDIO, NULL);
	type("last");
	close(line.far);
	line.far = -1;
	run_for(20);
	assert_received("last");
	write_text("still here");
	run_for(20);
	assert_string_equal(output_of(line.out), "still here");
}

static void input_from_a_file_is_read(void **state)
{
	char path[] = "/tmp/ebb-test-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, "commands\n", 9), 9);
	close(fd);
	use_pipes();
	use_stdin_file(path);
	unlink(path);
	create(SERIAL_STDIO, NULL);
	run_for(30);
	assert_received("commands\n");
}

static void null_device_as_input_is_no_trouble(void **state)
{
	(void)state;
	use_pipes();
	use_stdin_file("/dev/null");
	create(SERIAL_STDIO, NULL);
	write_text("x");
	run_for(20);
	assert_received("");
	assert_string_equal(output_of(line.out), "x");
}

static void full_pipe_holds_the_guest_back(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	static uint8_t sink[1 << 17];
	size_t written = 0;
	size_t read_back = 0;

	(void)state;
	use_pipes();
	create(SERIAL_STDIO, NULL);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	for (int i = 0; i < 20; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		run_for(5);
	}
	assert_true(written < 20 * sizeof(data));
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), 0);
	line.writable_calls = 0;
	fcntl(line.out, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 100 && read_back < written; i++) {
		ssize_t count = read(line.out, sink, sizeof(sink));

		read_back += count > 0 ? (size_t)count : 0;
		run_for(5);
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
	use_pipes();
	fcntl(line.out, F_SETPIPE_SZ, 4096);
	create(SERIAL_STDIO, NULL);
	for (int i = 0; i < 3; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		run_for(2);
	}
	assert_int_equal(thread_start(&reader, "reader", read_slowly, &total), 0);
	chardev_destroy(line.chardev);
	line.chardev = NULL;
	put_stdio_back();
	pthread_join(reader, NULL);
	assert_int_equal(total, written);
}

static void lost_reader_does_not_stop_the_guest(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	size_t written = 0;

	(void)state;
	use_pipes();
	create(SERIAL_STDIO, NULL);
	close(line.out);
	line.out = -1;
	for (int i = 0; i < 10; i++) {
		written += chardev_write(line.chardev, data, sizeof(data));
		run_for(5);
	}
	assert_int_equal(written, 10 * sizeof(data));
}

static void nothing_takes_everything(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];

	(void)state;
	create(SERIAL_NONE, NULL);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
		run_for(2);
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
	create(SERIAL_FILE, path);
	write_text("after");
	chardev_destroy(line.chardev);
	line.chardev = NULL;
	assert_int_equal(pread(fd, text, sizeof(text), 0), 12);
	assert_string_equal(text, "before after");
	close(fd);
	unlink(path);
}

static void file_that_cannot_be_opened_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(chardev_create(SERIAL_FILE, "/nowhere/x", "serial line", line.loop,
					&line.chardev, &error),
			 -ENOENT);
	assert_non_null(strstr(error.text, "/nowhere/x"));
}

static void pty_is_connected_and_left(void **state)
{
	static uint8_t data[CHARDEV_QUEUE_SIZE];
	int fd;

	(void)state;
	create(SERIAL_PTY, NULL);
	/* Nobody there: the guest is not held back. */
	for (int i = 0; i < 4; i++) {
		assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
		run_for(5);
	}
	for (int visit = 0; visit < 2; visit++) {
		fd = open(chardev_path(line.chardev), O_RDWR | O_NOCTTY);
		assert_true(fd >= 0);
		write_text("hello\n");
		run_for(20);
		assert_string_equal(output_of(fd), "hello\n");
		assert_int_equal(write(fd, "hi\r", 3), 3);
		run_for(300);
		assert_received("hi\r");
		line.received_length = 0;
		close(fd);
		run_for(20);
	}
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
	run_for(5);
	assert_int_equal(chardev_write(line.chardev, data, sizeof(data)), sizeof(data));
}

static void idle_line_sleeps(void **state)
{
	struct timespec before;
	struct timespec after;
	int fd;

	(void)state;
	create(SERIAL_PTY, NULL);
	fd = open(chardev_path(line.chardev), O_RDWR | O_NOCTTY);
	write_text("x");
	run_for(20);
	close(fd);
	run_for(20);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	run_for(500);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	assert_true((after.tv_sec - before.tv_sec) * 1000 +
			    (after.tv_nsec - before.tv_nsec) / 1000000 <
		    50);
}

#define CHARDEV_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: handlers are installed once, and a child would inherit them. */
		CHARDEV_TEST(terminal_is_restored_on_fatal_signals),
		CHARDEV_TEST(terminal_is_raw_until_the_end),
		CHARDEV_TEST(shell_keeps_its_blocking_descriptors),
		CHARDEV_TEST(terminal_is_restored_by_exit),
		CHARDEV_TEST(keys_reach_the_guest),
		CHARDEV_TEST(escape_keys_do_not),
		CHARDEV_TEST(muted_line_leaves_the_terminal_alone),
		CHARDEV_TEST(full_queue_goes_out_though_muted),
		CHARDEV_TEST(refused_input_is_offered_again),
		CHARDEV_TEST(pipes_have_no_escape_keys),
		CHARDEV_TEST(end_of_input_is_no_trouble),
		CHARDEV_TEST(input_from_a_file_is_read),
		CHARDEV_TEST(null_device_as_input_is_no_trouble),
		CHARDEV_TEST(full_pipe_holds_the_guest_back),
		CHARDEV_TEST(flush_loses_nothing),
		CHARDEV_TEST(lost_reader_does_not_stop_the_guest),
		CHARDEV_TEST(nothing_takes_everything),
		CHARDEV_TEST(file_is_appended_to),
		CHARDEV_TEST(file_that_cannot_be_opened_is_an_error),
		CHARDEV_TEST(pty_is_connected_and_left),
		CHARDEV_TEST(idle_line_sleeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
