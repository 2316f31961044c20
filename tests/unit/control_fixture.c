#include "control_fixture.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/thread.h"

struct control_vm vm;

static void on_quit(void *opaque)
{
	(void)opaque;
	vm.quits++;
}

static void on_done(void *opaque, uint32_t events)
{
	eventfd_t value;

	(void)opaque;
	(void)events;
	eventfd_read(vm.done_fd, &value);
	control_server_swap_done(vm.server);
}

static void on_emit(void *opaque, uint32_t events)
{
	eventfd_t count;

	(void)opaque;
	(void)events;
	eventfd_read(vm.emit_fd, &count);
	while (count--)
		events_emit(vm.events, "test", json_pack("{s:s}", "padding", "0123456789abcdef"));
}

static void *run_loop(void *opaque)
{
	(void)opaque;
	event_loop_run(vm.loop);
	return NULL;
}

int control_setup(void **state)
{
	struct error error;
	struct control_host host = {
		.machine = (struct machine *)&vm, /* not looked into */
		.name = "web",
		.quit = on_quit,
		.stall_ns = STALL_NS,
	};

	(void)state;
	fake_machine_init();
	vm.quits = 0;
	strcpy(vm.directory, "/tmp/ebb-test-XXXXXX");
	assert_non_null(mkdtemp(vm.directory));
	setenv("XDG_RUNTIME_DIR", vm.directory, 1);
	assert_int_equal(control_socket_claim("web", NULL, &vm.socket, &error), 0);
	assert_int_equal(event_loop_create(&vm.loop), 0);
	vm.done_fd = eventfd(0, EFD_CLOEXEC);
	event_loop_add(vm.loop, vm.done_fd, EPOLLIN, on_done, NULL, &vm.done_source);
	vm.emit_fd = eventfd(0, EFD_CLOEXEC);
	event_loop_add(vm.loop, vm.emit_fd, EPOLLIN, on_emit, NULL, &vm.emit_source);
	assert_int_equal(events_create(vm.loop, host.machine, &vm.events, &error), 0);
	host.events = vm.events;
	assert_int_equal(control_server_create(vm.loop, vm.socket, &host, &vm.server, &error), 0);
	return thread_start(&vm.thread, "server", run_loop, NULL);
}

void stop_server(void)
{
	if (!vm.loop)
		return;
	event_loop_stop(vm.loop);
	pthread_join(vm.thread, NULL);
	control_server_destroy(vm.server);
	events_destroy(vm.events);
	close(vm.emit_fd);
	event_loop_destroy(vm.loop);
	control_socket_release(vm.socket);
	close(vm.done_fd);
	vm.loop = NULL;
}

int control_teardown(void **state)
{
	char path[80];

	(void)state;
	stop_server();
	snprintf(path, sizeof(path), "%s/ebb", vm.directory);
	/* Fails if anything was left behind. */
	if (rmdir(path) || rmdir(vm.directory))
		return -1;
	return 0;
}

void finish_operation(int result)
{
	fake_machine_finish(result);
	eventfd_write(vm.done_fd, 1);
}

int connect_client(void)
{
	struct error error;
	int fd;

	assert_int_equal(control_socket_connect(control_socket_path(vm.socket), "web", &fd, &error),
			 0);
	return fd;
}

void send_text(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

const char *receive(int fd)
{
	static char line[65536];
	size_t length = 0;

	for (;;) {
		struct pollfd wanted = {.fd = fd, .events = POLLIN};
		ssize_t count;
		char *end;

		if (poll(&wanted, 1, PATIENCE_MS) != 1)
			fail_msg("no answer");
		/* Look first: what follows the line is for the next call. */
		count = recv(fd, line + length, sizeof(line) - 1 - length, MSG_PEEK);
		if (count <= 0)
			break;
		end = memchr(line + length, '\n', (size_t)count);
		if (end)
			count = end + 1 - (line + length);
		count = recv(fd, line + length, (size_t)count, 0);
		assert_true(count > 0);
		length += (size_t)count;
		if (end) {
			length--;
			break;
		}
	}
	line[length] = '\0';
	return line;
}

void assert_receives(int fd, const char *part)
{
	const char *line = receive(fd);

	if (!strstr(line, part))
		fail_msg("\"%s\" does not contain \"%s\"", line, part);
}

void assert_serves(void)
{
	int fd = connect_client();

	send_text(fd, "{\"command\":\"status\"}\n");
	assert_receives(fd, "{\"result\":{\"name\":\"web\"");
	close(fd);
}

void await(atomic_int *value, int wanted)
{
	for (int i = 0; i < PATIENCE_MS && *value != wanted; i++)
		usleep(1000);
	assert_int_equal(*value, wanted);
}
