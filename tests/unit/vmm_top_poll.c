/* How `ebb top` asks machines: the test is the machines, and some of them behave badly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/client/top/poll.h"

#define MACHINES 100

struct listener {
	char path[108];
	int listening;
	int connected; /* -1: none */
};

static char directory[64];
static struct listener listeners[MACHINES];
static size_t listener_count;
static struct top_model model;
static struct top_poll *poll;
static struct error error;

static int setup(void **state)
{
	char path[96];

	(void)state;
	strcpy(directory, "/tmp/ebb-top-XXXXXX");
	assert_non_null(mkdtemp(directory));
	setenv("XDG_RUNTIME_DIR", directory, 1);
	snprintf(path, sizeof(path), "%s/ebb", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	listener_count = 0;
	return top_poll_create(&model, &poll);
}

static void end(struct listener *machine)
{
	unlink(machine->path);
	close(machine->listening);
	if (machine->connected >= 0)
		close(machine->connected);
	machine->listening = machine->connected = -1;
}

static int teardown(void **state)
{
	char path[96];

	(void)state;
	for (size_t i = 0; i < listener_count; i++)
		if (listeners[i].listening >= 0)
			end(&listeners[i]);
	top_poll_destroy(poll);
	top_model_clear(&model);
	snprintf(path, sizeof(path), "%s/ebb", directory);
	chmod(path, 0700);
	return rmdir(path) || rmdir(directory);
}

static struct listener *begin(const char *name)
{
	struct listener *machine = &listeners[listener_count++];
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(machine->path, sizeof(machine->path), "%s/ebb/%s.sock", directory, name);
	strcpy(address.sun_path, machine->path);
	machine->connected = -1;
	machine->listening = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(machine->listening >= 0);
	assert_int_equal(bind(machine->listening, (void *)&address, sizeof(address)), 0);
	assert_int_equal(listen(machine->listening, 4), 0);
	return machine;
}

static void ask(void)
{
	if (top_poll_ask(poll, clock_monotonic_ns(), &error))
		fail_msg("%s", error.text);
}

/* What the machine was sent. */
static const char *hear(struct listener *machine)
{
	static char text[1024];
	ssize_t count;

	if (machine->connected < 0)
		machine->connected = accept(machine->listening, NULL, NULL);
	count = recv(machine->connected, text, sizeof(text) - 1, MSG_DONTWAIT);
	text[count > 0 ? count : 0] = '\0';
	return text;
}

/* Single quotes stand for double ones. */
static void answer(const struct listener *machine, const char *line)
{
	char copy[1024];
	size_t length = strlen(line);

	strcpy(copy, line);
	for (char *at = copy; *at; at++)
		*at = *at == '\'' ? '"' : *at;
	assert_int_equal(send(machine->connected, copy, length, MSG_NOSIGNAL), length);
}

static void answer_status(const struct listener *machine)
{
	answer(machine, "{'result':{'state':'running','memory_bytes':8192}}\n"
			"{'result':{'state':'staged','page_size_bytes':4096,'pages_staged':1}}\n");
}

static void wait_until_settled(void)
{
	while (!top_poll_is_settled(poll))
		top_poll_wait(poll, -1, 100);
}

static void machines_are_found_asked_and_taken(void **state)
{
	struct listener *web = begin("web");
	const struct top_vm *vm;

	(void)state;
	ask();
	assert_string_equal(hear(web), "{\"command\":\"status\"}\n{\"command\":\"swap status\"}\n");
	answer_status(web);
	wait_until_settled();
	vm = top_model_find(&model, "web");
	assert_non_null(vm);
	assert_int_equal(vm->health, TOP_ALIVE);
	assert_int_equal(vm->kinds[TOP_STAGED], 4096);
	assert_int_equal(vm->kinds[TOP_ZERO], 4096);
}

static void no_directory_means_no_machines(void **state)
{
	(void)state;
	setenv("XDG_RUNTIME_DIR", "/nonexistent", 1);
	ask();
	assert_int_equal(model.count, 0);
}

static void a_directory_that_others_may_write_is_not_trusted(void **state)
{
	char path[96];

	(void)state;
	snprintf(path, sizeof(path), "%s/ebb", directory);
	chmod(path, 0777);
	assert_true(top_poll_ask(poll, 1, &error) < 0);
	assert_non_null(strstr(error.text, "chmod 700"));
}

static void a_machine_that_hangs_holds_up_no_other(void **state)
{
	struct listener *web = begin("web");

	(void)state;
	begin("stuck");
	ask();
	hear(web);
	answer_status(web);
	wait_until_settled();
	assert_int_equal(top_model_find(&model, "web")->health, TOP_ALIVE);
	assert_int_equal(top_model_find(&model, "stuck")->health, TOP_SILENT);
	/* And is asked no more until it has answered. */
	ask();
	assert_true(top_model_find(&model, "stuck")->health == TOP_SILENT);
	hear(&listeners[1]);
	answer_status(&listeners[1]);
	top_poll_wait(poll, -1, 1000);
	assert_int_equal(top_model_find(&model, "stuck")->health, TOP_ALIVE);
}

static void a_machine_that_ends_is_shown_as_ended_and_then_forgotten(void **state)
{
	struct listener *web = begin("web");

	(void)state;
	ask();
	hear(web);
	answer_status(web);
	wait_until_settled();
	end(web);
	ask();
	assert_int_equal(top_model_find(&model, "web")->health, TOP_GONE);
	assert_string_equal(model.message, "web has ended");
	top_model_find(&model, "web")->gone_ns -= TOP_GONE_NS;
	ask();
	assert_null(top_model_find(&model, "web"));
}

static void a_killed_machine_whose_socket_stays_is_noticed_at_once(void **state)
{
	struct listener *web = begin("web");

	(void)state;
	ask();
	hear(web);
	answer_status(web);
	wait_until_settled();
	close(web->listening);
	close(web->connected);
	web->connected = -1;
	top_poll_wait(poll, -1, 1000);
	assert_int_equal(top_model_find(&model, "web")->health, TOP_GONE);
}

static void a_stale_socket_is_no_machine(void **state)
{
	struct listener *web = begin("web");

	(void)state;
	close(web->listening);
	ask();
	assert_int_equal(model.count, 0);
}

static void nonsense_is_survived(void **state)
{
	static const char *const lines[] = {
		"\n",
		"hello\n",
		"[]\n",
		"{}\n",
		"{'result':[]}\n",
		"{'result':null}\n",
		"{'error':{'code':'busy','message':'too many clients'}}\n",
		"{'progress':{}}\n",
	};
	struct listener *web = begin("web");

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		ask();
		hear(web);
		answer(web, lines[i]);
		answer(web, lines[i]);
		answer(web, lines[i]);
		top_poll_wait(poll, -1, 1000);
	}
	answer_status(web);
	answer_status(web);
	wait_until_settled();
	assert_non_null(top_model_find(&model, "web"));
}

static void the_watched_machine_gives_its_map(void **state)
{
	struct listener *web = begin("web");

	(void)state;
	top_poll_watch(poll, "web", 77);
	ask();
	assert_non_null(strstr(hear(web), "{\"command\":\"memory-map\",\"arguments\":[\"77\"]}\n"));
	answer_status(web);
	answer(web, "{'result':{'page_size_bytes':4096,'pages_per_cell':1,'resident':[1,0]}}\n");
	wait_until_settled();
	assert_string_equal(model.map.name, "web");
	assert_int_equal(model.map.count, 2);
	top_poll_watch(poll, "web", 5); /* the window was resized: at once */
	assert_non_null(strstr(hear(web), "[\"5\"]"));
	top_poll_watch(poll, NULL, 0);
	assert_string_equal(model.map.name, "");
}

static void orders_are_carried_out_beside_the_questions(void **state)
{
	struct listener *web = begin("web");
	int questions;

	(void)state;
	ask();
	hear(web);
	questions = web->connected;
	top_poll_order(poll, "web", "swap out");
	web->connected = -1;
	assert_string_equal(hear(web), "{\"command\":\"swap out\"}\n");
	answer(web, "{'progress':{}}\n{'error':{'code':'busy','message':'no \\u001b way'}}\n");
	while (!model.message_is_error)
		top_poll_wait(poll, -1, 1000);
	assert_string_equal(model.message, "web: no ? way");
	close(web->connected);
	web->connected = questions;
}

static void an_order_for_a_machine_that_is_gone_is_refused(void **state)
{
	(void)state;
	top_poll_order(poll, "web", "swap out");
	assert_true(model.message_is_error);
}

static void a_hundred_machines_are_asked(void **state)
{
	char name[16];

	(void)state;
	for (int i = 0; i < MACHINES; i++) {
		snprintf(name, sizeof(name), "vm-%d", i);
		begin(name);
	}
	ask();
	for (int i = 0; i < MACHINES; i++) {
		hear(&listeners[i]);
		answer_status(&listeners[i]);
	}
	wait_until_settled();
	assert_int_equal(model.count, MACHINES);
	for (int i = 0; i < MACHINES; i++)
		assert_int_equal(model.vms[i]->health, TOP_ALIVE);
}

#define with_poll(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_poll(machines_are_found_asked_and_taken),
		with_poll(no_directory_means_no_machines),
		with_poll(a_directory_that_others_may_write_is_not_trusted),
		with_poll(a_machine_that_hangs_holds_up_no_other),
		with_poll(a_machine_that_ends_is_shown_as_ended_and_then_forgotten),
		with_poll(a_killed_machine_whose_socket_stays_is_noticed_at_once),
		with_poll(a_stale_socket_is_no_machine),
		with_poll(nonsense_is_survived),
		with_poll(the_watched_machine_gives_its_map),
		with_poll(orders_are_carried_out_beside_the_questions),
		with_poll(an_order_for_a_machine_that_is_gone_is_refused),
		with_poll(a_hundred_machines_are_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
