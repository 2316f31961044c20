/* A line on a terminal: raw while the guest has it, the shell's again afterwards; escape keys. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "chardev_fixture.h"
#include "vmm/base/terminal.h"

static unsigned escapes, quits;

static int setup(void **state)
{
	escapes = quits = 0;
	return line_setup(state);
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
	escapes++;
}

static void on_quit(void *opaque)
{
	(void)opaque;
	quits++;
}

static void terminal_is_raw_until_the_end(void **state)
{
	struct termios modes;

	(void)state;
	line_use_terminal();
	assert_false(is_raw());
	line_create(SERIAL_STDIO, NULL);
	line_run_for(20);
	assert_true(is_raw());
	tcgetattr(line.near, &modes);
	assert_true(modes.c_oflag & OPOST);
	line_destroy();
	assert_false(is_raw());
}

static void shell_keeps_its_blocking_descriptors(void **state)
{
	(void)state;
	line_use_terminal();
	line_create(SERIAL_STDIO, NULL);
	line_run_for(20);
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
	line_use_terminal();
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
	line_use_terminal();
	pid = fork();
	if (pid == 0)
		exit(terminal_set_raw(STDIN_FILENO) ? 1 : 0);
	waitpid(pid, NULL, 0);
	assert_false(is_raw());
}

static void keys_reach_the_guest(void **state)
{
	(void)state;
	line_use_terminal();
	line_create(SERIAL_STDIO, NULL);
	line_run_for(20);
	line_type("ls\r\x03\x1a");
	line_assert_received("ls\r\x03\x1a");
}

static void escape_keys_do_not(void **state)
{
	(void)state;
	line_use_terminal();
	line_create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, on_escape, NULL);
	chardev_set_quit(line.chardev, on_quit, NULL);
	line_run_for(20);
	line_type("a\x01"
		  "cb\x01\x01"
		  "c\x01"
		  "ad\x01x\x01ze\x01h");
	line_assert_received("ab\x01"
			     "c\x01"
			     "de");
	assert_int_equal(escapes, 1);
	assert_int_equal(quits, 1);
	line_run_for(20);
	assert_non_null(strstr(line_output_of(line.far), "Ctrl-A c console"));
}

static void mute_at_escape(void *opaque)
{
	(void)opaque;
	escapes++;
	chardev_mute(line.chardev);
}

static void muted_line_leaves_the_terminal_alone(void **state)
{
	char typed[16] = {0};

	(void)state;
	line_use_terminal();
	line_create(SERIAL_STDIO, NULL);
	chardev_set_escape(line.chardev, mute_at_escape, NULL);
	line_run_for(20);
	line_type("\x01"
		  "cexit\n");
	for (int tries = 0; escapes == 0 && tries < 500; tries++)
		line_run_for(10);
	assert_false(is_raw());
	assert_int_equal(read(line.near, typed, sizeof(typed)), 5); /* the console's to read */
	line_write("from the guest");
	line_run_for(20);
	assert_null(strstr(line_output_of(line.far), "guest"));
	chardev_unmute(line.chardev);
	line_run_for(20);
	assert_true(is_raw());
	assert_string_equal(line_output_of(line.far), "from the guest");
	line_type("x");
	line_assert_received("x");
}

#define LINE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, line_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: handlers are installed once, and a child would inherit them. */
		LINE_TEST(terminal_is_restored_on_fatal_signals),
		LINE_TEST(terminal_is_raw_until_the_end),
		LINE_TEST(shell_keeps_its_blocking_descriptors),
		LINE_TEST(terminal_is_restored_by_exit),
		LINE_TEST(keys_reach_the_guest),
		LINE_TEST(escape_keys_do_not),
		LINE_TEST(muted_line_leaves_the_terminal_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
