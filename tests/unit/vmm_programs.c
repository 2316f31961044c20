/*
 * `ebb ctl`, `ebb console` and `ebb ls` as processes, against a server with a machine that only
 * remembers. Each runs in a child on a terminal of its own.
 */
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_machine.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/thread.h"
#include "vmm/client/console.h"
#include "vmm/client/ctl.h"
#include "vmm/client/ls.h"
#include "vmm/control/control_server.h"
#include "vmm/control/control_socket.h"

#define PATIENCE_MS 8000

static struct {
	char directory[64];
	struct control_socket *socket;
	struct event_loop *loop;
	struct event_source *timer;
	struct control_server *server;
	pthread_t thread;
	pid_t child;
	int terminal; /* the child's */
	char output[65536];
	size_t output_length;
	size_t seen; /* what await_output() has passed */
} vm;

static struct error error;

static void on_quit(void *opaque)
{
	(void)opaque;
}

/* The worker: a cancelled operation ends. */
static void on_timer(void *opaque, uint32_t events)
{
	(void)opaque;
	(void)events;
	if (fake.operation != SWAP_OP_NONE && fake.cancelled) {
		fake_machine_finish(0);
		control_server_swap_done(vm.server);
	}
}

static void *run_loop(void *opaque)
{
	(void)opaque;
	event_loop_run(vm.loop);
	return NULL;
}

static int setup(void **state)
{
	const struct control_host host = {
		.machine = (struct machine *)&vm, /* not looked into */
		.name = "web",
		.quit = on_quit,
	};

	(void)state;
	memset(&vm, 0, sizeof(vm));
	fake_machine_init();
	strcpy(vm.directory, "/tmp/ebb-test-XXXXXX");
	assert_non_null(mkdtemp(vm.directory));
	setenv("XDG_RUNTIME_DIR", vm.directory, 1);
	setenv("XDG_STATE_HOME", vm.directory, 1);
	setenv("TERM", "dumb", 1);
	assert_int_equal(control_socket_claim("web", NULL, &vm.socket, &error), 0);
	assert_int_equal(event_loop_create(&vm.loop), 0);
	assert_int_equal(control_server_create(vm.loop, vm.socket, &host, &vm.server, &error), 0);
	event_loop_add_timer(vm.loop, on_timer, NULL, &vm.timer);
	event_source_arm(vm.timer, 10 * NS_PER_MS, 10 * NS_PER_MS);
	return thread_start(&vm.thread, "server", run_loop, NULL);
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	event_loop_stop(vm.loop);
	pthread_join(vm.thread, NULL);
	control_server_destroy(vm.server);
	event_loop_destroy(vm.loop);
	control_socket_release(vm.socket);
	snprintf(path, sizeof(path), "%s/ebb/history", vm.directory);
	unlink(path);
	snprintf(path, sizeof(path), "%s/ebb", vm.directory);
	return rmdir(path) || rmdir(vm.directory);
}

/* Starts @program with the words of @line on a terminal. */
static void start(int (*program)(int, char **), const char *line)
{
	char words[256];
	char *argv[16];
	int argc = 0;

	strcpy(words, line);
	for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	vm.output_length = 0;
	vm.seen = 0;
	vm.child = forkpty(&vm.terminal, NULL, NULL, NULL);
	assert_true(vm.child >= 0);
	if (vm.child == 0) {
		int status = program(argc, argv);

		fflush(stdout);
		_exit(status);
	}
}

/* Takes some output of the child. False at its end. */
static bool read_output(void)
{
	struct pollfd wanted = {.fd = vm.terminal, .events = POLLIN};
	ssize_t count;

	if (poll(&wanted, 1, PATIENCE_MS) != 1)
		fail_msg("nothing after: %s", vm.output);
	count = read(vm.terminal, vm.output + vm.output_length,
		     sizeof(vm.output) - 1 - vm.output_length);
	if (count <= 0)
		return false;
	vm.output_length += (size_t)count;
	vm.output[vm.output_length] = '\0';
	return true;
}

/* Waits until @text was printed, after what was awaited before. */
static void await_output(const char *text)
{
	char *found;

	while (!(found = strstr(vm.output + vm.seen, text))) {
		if (!read_output())
			fail_msg("\"%s\" is not in: %s", text, vm.output + vm.seen);
	}
	vm.seen = (size_t)(found - vm.output) + strlen(text);
}

static void type(const char *keys)
{
	assert_int_equal(write(vm.terminal, keys, strlen(keys)), strlen(keys));
}

/* The exit status of the child, once it has ended. */
static int finish(void)
{
	int status;

	while (read_output())
		;
	assert_int_equal(waitpid(vm.child, &status, 0), vm.child);
	close(vm.terminal);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void ctl_has_three_exit_statuses(void **state)
{
	static const struct {
		const char *line;
		int status;
		const char *output;
	} cases[] = {
		{"ctl web pause", 0, "paused"},
		{"ctl web pause", 1, "the machine is paused"},
		{"ctl --json web resume", 0, "{\"result\":{\"state\":\"running\"}}"},
		{"ctl nobody status", 1, "no machine named \"nobody\""},
		{"ctl web fly", 2, "no such command"},
		{"ctl web pause now", 2, "too many arguments"},
		{"ctl web balloon much", 2, "no size"},
		{"ctl web", 2, "a command is missing"},
		{"ctl", 2, "name is missing"},
		{"ctl ../web status", 2, "no name"},
		{"ctl --frob web status", 2, "unknown option"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		start(ctl_main, cases[i].line);
		await_output(cases[i].output);
		assert_int_equal(finish(), cases[i].status);
	}
}

static void interrupt_cancels_the_operation(void **state)
{
	(void)state;
	start(ctl_main, "ctl web swap out");
	await_output("25 %");
	kill(vm.child, SIGINT);
	await_output("swap out was cancelled after 25 of 100 pages");
	assert_int_equal(finish(), 1);
}

static void ls_lists_the_machine(void **state)
{
	(void)state;
	start(ls_main, "ls");
	await_output("NAME");
	await_output("web");
	await_output("running");
	await_output("disabled");
	assert_int_equal(finish(), 0);
	start(ls_main, "ls --json");
	await_output("{\"name\":\"web\",");
	assert_int_equal(finish(), 0);
}

static void console_completes_and_remembers(void **state)
{
	(void)state;
	start(console_main, "console web");
	await_output("ebb web> ");
	type("pau\t\r");
	await_output("paused");
	await_output("ebb web> ");
	type("\x1b[A\r"); /* arrow up: the same again */
	await_output("the machine is paused");
	await_output("ebb web> ");
	type("swap \t");
	await_output("swap cancel");
	type("\x03"); /* Ctrl-C */
	await_output("^C");
	await_output("ebb web> ");
	type("help\r");
	await_output("swap status");
	await_output("ebb web> ");
	type("exit\r");
	assert_int_equal(finish(), 0);
}

static void console_cancels_the_running_operation(void **state)
{
	(void)state;
	start(console_main, "console web");
	await_output("ebb web> ");
	type("swap in\r");
	await_output("25 %");
	type("\x03");
	await_output("was cancelled");
	await_output("ebb web> ");
	type("\x04"); /* Ctrl-D */
	assert_int_equal(finish(), 0);
}

static void attached_console_goes_back_by_its_keys(void **state)
{
	(void)state;
	start(console_main, "console --attached web");
	await_output("ebb web> ");
	type("\x01\x01"
	     "c");
	assert_int_equal(finish(), 0);
}

static void console_ends_after_quit(void **state)
{
	(void)state;
	start(console_main, "console web");
	await_output("ebb web> ");
	type("quit\r");
	await_output("the machine ends");
	assert_int_equal(finish(), 0);
}

/* `ebb console` reading @text instead of keys. */
static int run_script(const char *text)
{
	char path[96];
	FILE *script;
	int status;

	snprintf(path, sizeof(path), "%s/script", vm.directory);
	script = fopen(path, "w");
	fputs(text, script);
	fclose(script);
	vm.child = fork();
	if (vm.child == 0) {
		char name[] = "console";
		char machine[] = "web";
		char *argv[] = {name, machine, NULL};

		if (!freopen(path, "r", stdin) || !freopen("/dev/null", "w", stdout) ||
		    !freopen("/dev/null", "w", stderr))
			_exit(99);
		_exit(console_main(2, argv));
	}
	assert_int_equal(waitpid(vm.child, &status, 0), vm.child);
	unlink(path);
	return WEXITSTATUS(status);
}

static void script_tells_by_its_status(void **state)
{
	(void)state;
	assert_int_equal(run_script("# quiet\n\npause\n  resume  \n"), 0);
	assert_int_equal(run_script("resume\npause"), 1);
	assert_int_equal(fake.state, MACHINE_PAUSED); /* it went on after the refusal */
	assert_int_equal(run_script("exit\nresume\n"), 0);
	assert_int_equal(fake.state, MACHINE_PAUSED);
}

#define PROGRAM_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROGRAM_TEST(ctl_has_three_exit_statuses),
		PROGRAM_TEST(interrupt_cancels_the_operation),
		PROGRAM_TEST(ls_lists_the_machine),
		PROGRAM_TEST(console_completes_and_remembers),
		PROGRAM_TEST(console_cancels_the_running_operation),
		PROGRAM_TEST(attached_console_goes_back_by_its_keys),
		PROGRAM_TEST(console_ends_after_quit),
		PROGRAM_TEST(script_tells_by_its_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
