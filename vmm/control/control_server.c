#include "vmm/control/control_server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/control/control_server_internal.h"
#include "vmm/control/control_socket.h"
#include "vmm/control/events.h"
#include "vmm/machine/machine.h"

void control_server_run_timer(struct control_server *server)
{
	if (server->timer_runs)
		return;
	server->timer_runs =
		!event_source_arm(server->timer, CONTROL_PROGRESS_NS, CONTROL_PROGRESS_NS);
}

static struct control_connection *find_waiting(const struct control_server *server)
{
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (server->clients[i] && server->clients[i]->waits)
			return server->clients[i];
	}
	return NULL;
}

void control_server_swap_done(struct control_server *server)
{
	enum control_code code;
	struct swap_status status;
	struct error error = {0};
	json_t *answer = NULL;
	struct control_connection *owner;

	if (!server->operation.command)
		return;
	swap_get_status(machine_swap(server->host.machine), &status);
	if (status.current.running)
		return; /* told about an operation that was answered by the timer */
	events_look_at_swap(server->host.events);
	/* First: the owner's next request may start another. */
	code = control_operation_finish(&server->operation, &server->host, &status, &answer,
					&error);
	owner = find_waiting(server);
	if (owner) {
		owner->waits = false;
		connection_settle(owner, connection_send_answer(owner, code, answer, &error));
	} else if (code == CONTROL_OK) {
		json_decref(answer);
	}
}

static void tell_progress(struct control_server *server)
{
	struct control_connection *owner = find_waiting(server);
	struct swap_status status;
	json_t *progress;

	swap_get_status(machine_swap(server->host.machine), &status);
	if (!status.current.running) {
		control_server_swap_done(server);
		return;
	}
	progress = control_operation_progress(&server->operation, &status);
	if (owner && !owner->output_length)
		connection_settle(owner, connection_send_line(
						 owner, control_format_line("progress", progress)));
	else
		json_decref(progress);
}

static void on_timer(void *opaque, uint32_t events)
{
	struct control_server *server = opaque;
	uint64_t now_ns = clock_monotonic_ns();
	bool needed = false;

	(void)events;
	if (server->accept_rests)
		server->accept_rests = event_source_modify(server->listener, EPOLLIN) != 0;
	if (server->operation.command)
		tell_progress(server);
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_connection *client = server->clients[i];

		if (!client || !client->output_length || client->follows)
			continue;
		if (now_ns - client->output_since_ns >= server->host.stall_ns &&
		    now_ns > client->output_since_ns)
			connection_drop(client);
		else
			needed = true;
	}
	if (!needed && !server->operation.command && !server->accept_rests) {
		event_source_arm(server->timer, 0, 0);
		server->timer_runs = false;
	}
}

/* Later than the event itself, which may have come in the middle of serving a client. */
static void on_news(void *opaque, uint32_t events)
{
	struct control_server *server = opaque;
	eventfd_t count;

	(void)events;
	eventfd_read(server->events_fd, &count);
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_connection *client = server->clients[i];

		if (client && client->follows && !client->output_length)
			connection_settle(client, 0);
	}
}

static void on_event(void *opaque)
{
	struct control_server *server = opaque;

	eventfd_write(server->events_fd, 1);
}

static void refuse(int fd, enum control_code code, const char *message)
{
	char *line = control_format_error(code, message);

	if (line)
		send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
	free(line);
	close(fd);
}

static void add_client(struct control_server *server, int fd)
{
	struct control_connection **slot = server->clients;
	int result;

	while (slot < server->clients + CONTROL_CLIENTS_MAX && *slot)
		slot++;
	if (slot == server->clients + CONTROL_CLIENTS_MAX) {
		refuse(fd, CONTROL_BUSY, "too many clients; close one");
		return;
	}
	result = connection_create(server, fd, slot);
	if (result)
		refuse(fd, CONTROL_FAILED,
		       result == -ENOMEM ? "no memory for another client"
					 : "this client cannot be watched");
}

static void on_listen(void *opaque, uint32_t events)
{
	struct control_server *server = opaque;
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0) {
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
			return;
		if (log_ratelimit_pass(&server->accept_limit))
			log_warning("control socket: cannot accept a client: %s",
				    strerrordesc_np(errno));
		server->accept_rests = !event_source_modify(server->listener, 0);
		control_server_run_timer(server);
		return;
	}
	if (control_socket_check_client(server->socket, fd)) {
		close(fd);
		return;
	}
	add_client(server, fd);
}

/* 0 or -errno. */
static int listen_to_events(struct control_server *server)
{
	int result;

	server->events_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->events_fd < 0)
		return -errno;
	result = event_loop_add(server->loop, server->events_fd, EPOLLIN, on_news, server,
				&server->news);
	if (!result)
		result = events_listen(server->host.events, on_event, server);
	if (!result)
		return 0;
	event_source_remove(server->news);
	close(server->events_fd);
	return result;
}

int control_server_create(struct event_loop *loop, struct control_socket *socket,
			  const struct control_host *host, struct control_server **out,
			  struct error *err)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int result;

	if (!server)
		return error_errno(err, ENOMEM, "control server");
	server->loop = loop;
	server->host = *host;
	if (!server->host.stall_ns)
		server->host.stall_ns = CONTROL_STALL_NS;
	server->socket = socket;
	server->listen_fd = control_socket_fd(socket);
	result = event_loop_add_timer(loop, on_timer, server, &server->timer);
	if (result)
		goto free_server;
	result = event_loop_add(loop, server->listen_fd, EPOLLIN, on_listen, server,
				&server->listener);
	if (result)
		goto remove_timer;
	result = listen_to_events(server);
	if (result)
		goto remove_listener;
	*out = server;
	return 0;

remove_listener:
	event_source_remove(server->listener);
remove_timer:
	event_source_remove(server->timer);
free_server:
	free(server);
	return error_errno(err, -result, "control server");
}

void control_server_destroy(struct control_server *server)
{
	if (!server)
		return;
	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		struct control_connection *client = server->clients[i];

		if (!client)
			continue;
		if (client->waits)
			connection_send_error(client, CONTROL_QUITTING,
					      "the machine ended before the operation did");
		connection_feed(client);
		connection_drop(client);
	}
	control_operation_abandon(&server->operation);
	event_source_remove(server->news);
	close(server->events_fd);
	event_source_remove(server->listener);
	event_source_remove(server->timer);
	free(server);
}
