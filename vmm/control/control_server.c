#include "vmm/control/control_server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control/control_operation.h"
#include "vmm/control/control_protocol.h"
#include "vmm/control/control_socket.h"
#include "vmm/control/events.h"
#include "vmm/machine/machine.h"

struct client {
	struct control_server *server;
	struct event_source *source;
	int fd;
	int file;          /* came with a request that was not carried out yet; 0: none */
	uint32_t events;   /* what the source waits for */
	bool waits;        /* for the operation that it started */
	bool follows;      /* events; no request is taken any more */
	bool input_closed; /* the client sends no more */
	bool closing;      /* drop it when its output is gone */
	size_t input_length;
	uint64_t sequence; /* of the last event that it was sent */
	char *output;      /* allocated; what is not sent yet */
	size_t output_length;
	uint64_t output_since_ns; /* when the client last took some of it */
	char input[CONTROL_REQUEST_MAX];
};

struct control_server {
	struct event_loop *loop;
	struct control_host host;
	const struct control_socket *socket; /* borrowed */
	int listen_fd;
	struct event_source *listener;
	struct event_source *timer;
	struct event_source *news; /* of events_fd */
	int events_fd;             /* an eventfd: there are events */
	bool timer_runs;
	bool accept_rests; /* no descriptors left: the timer tries again */
	struct control_operation operation;
	struct client *clients[CONTROL_CLIENTS_MAX];
	struct log_ratelimit accept_limit;
};

static void forget_file(struct client *client)
{
	if (client->file)
		close(client->file);
	client->file = 0;
}

static void drop_client(struct client *client)
{
	struct control_server *server = client->server;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (server->clients[i] == client)
			server->clients[i] = NULL;
	}
	event_source_remove(client->source);
	close(client->fd);
	forget_file(client);
	free(client->output);
	free(client);
}

static void run_timer(struct control_server *server)
{
	if (server->timer_runs)
		return;
	server->timer_runs =
		!event_source_arm(server->timer, CONTROL_PROGRESS_NS, CONTROL_PROGRESS_NS);
}

/* Sends what the socket takes. -errno if the client is gone. */
static int flush_output(struct client *client)
{
	size_t sent = 0;

	while (sent < client->output_length) {
		ssize_t count = send(client->fd, client->output + sent,
				     client->output_length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && errno == EAGAIN)
			break;
		if (count < 0)
			return -errno;
		sent += (size_t)count;
	}
	if (!sent)
		return 0;
	client->output_length -= sent;
	client->output_since_ns = clock_monotonic_ns();
	memmove(client->output, client->output + sent, client->output_length);
	return 0;
}

/* Queues @line, which it frees; a NULL line means that memory ran out. -errno: drop the client. */
static int send_line(struct client *client, char *line)
{
	size_t length;
	char *output;

	if (!line)
		return -ENOMEM;
	length = strlen(line);
	output = realloc(client->output, client->output_length + length);
	if (!output) {
		free(line);
		return -ENOMEM;
	}
	client->output = output;
	if (!client->output_length)
		client->output_since_ns = clock_monotonic_ns();
	memcpy(client->output + client->output_length, line, length);
	client->output_length += length;
	free(line);
	return flush_output(client);
}

static int send_error(struct client *client, enum control_code code, const char *message)
{
	/* analyzer-ok: the output is the client's, who frees it. */
	return send_line(client, control_format_error(code, message));
}

static int send_answer(struct client *client, enum control_code code, json_t *answer,
		       const struct error *error)
{
	if (code != CONTROL_OK)
		return send_error(client, code, error->text);
	return send_line(client, control_format_line("result", answer));
}

static int start_operation(struct client *client, const struct command *command,
			   const struct control_request *request)
{
	struct control_server *server = client->server;
	struct error error = {0};
	json_t *answer = NULL;
	int result = control_operation_start(&server->operation, &server->host, command, request,
					     &answer, &error);

	if (result)
		return send_answer(client, control_code_from_errno(result < 0 ? result : 0), answer,
				   &error);
	client->waits = true;
	run_timer(server);
	return 0;
}

/* `events`: what comes next are lines of events. -errno: drop the client. */
static int begin_to_follow(struct client *client, const struct control_request *request)
{
	const struct control_host *host = &client->server->host;
	json_t *subscribed;
	struct error error = {0};
	uint64_t since;
	int result = commands_parse_events(host, request, &since, &subscribed, &error);

	if (result)
		return send_error(client, control_code_from_errno(result), error.text);
	client->follows = true;
	client->sequence = since;
	return send_line(client,
			 events_format("subscribed", events_last(host->events), subscribed));
}

/* Sends events until the socket takes no more. -errno: drop the client. */
static int feed(struct client *client)
{
	while (client->follows && !client->output_length) {
		char *line = events_next(client->server->host.events, &client->sequence);
		int result;

		if (!line)
			return 0;
		result = send_line(client, line);
		if (result)
			return result;
	}
	return 0;
}

/* Carries out one request. -errno: drop the client. */
static int carry_out(struct client *client, const struct control_request *request)
{
	const struct control_host *host = &client->server->host;
	const struct command *command = commands_find(request->command);
	struct error error = {0};
	json_t *answer;
	int result;

	if (!command) {
		error_say(&error, EINVAL, "unknown command \"%.80s\"; `help` lists them",
			  request->command);
		return send_error(client, CONTROL_UNKNOWN_COMMAND, error.text);
	}
	if (request->argument_count > command->arguments_max) {
		error_say(&error, EINVAL,
			  "too many arguments; usage: %s%s%s (`help` lists all commands)",
			  command->name, command->arguments ? " " : "",
			  commands_arguments(command));
		return send_error(client, CONTROL_INVALID_ARGUMENT, error.text);
	}
	if (request->argument_count < command->arguments_min) {
		error_say(&error, EINVAL, "an argument is missing; usage: %s %s", command->name,
			  commands_arguments(command));
		return send_error(client, CONTROL_INVALID_ARGUMENT, error.text);
	}
	if (command->operation != SWAP_OP_NONE)
		return start_operation(client, command, request);
	if (command->streams)
		return begin_to_follow(client, request);
	result = command->run(host, request, &answer, &error);
	if (command->changes)
		events_look(host->events);
	if (result)
		return send_error(client, control_code_from_errno(result), error.text);
	result = send_line(client, control_format_line("result", answer));
	if (command->quits)
		host->quit(host->opaque);
	return result;
}

static int handle_line(struct client *client, const char *line, size_t length)
{
	struct control_request request;
	struct error error = {0};
	enum control_code code = control_request_parse(line, length, &request, &error);
	int result;

	if (code != CONTROL_OK)
		return send_error(client, code, error.text);
	request.file = client->file;
	result = carry_out(client, &request);
	forget_file(client);
	control_request_clear(&request);
	return result;
}

/* Handles the complete requests that may be handled now. -errno: drop the client. */
static int handle_input(struct client *client)
{
	while (!client->waits && !client->follows && !client->closing && !client->output_length) {
		char *end = memchr(client->input, '\n', client->input_length);
		size_t used;
		int result;

		if (!end) {
			if (client->input_length < sizeof(client->input))
				return 0;
			client->closing = true;
			return send_error(client, CONTROL_INVALID_REQUEST,
					  "the request is too long");
		}
		used = (size_t)(end - client->input) + 1;
		result = handle_line(client, client->input, used - 1);
		if (result)
			return result;
		client->input_length -= used;
		memmove(client->input, client->input + used, client->input_length);
	}
	return 0;
}

/* Keeps the last of the descriptors that came, and closes the others. */
static void take_files(struct client *client, struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part;
	     part = CMSG_NXTHDR(message, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			forget_file(client);
			memcpy(&client->file, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
		}
	}
}

/* Like recv(2). What else is sent than one descriptor is not even received. */
static ssize_t receive(struct client *client, void *bytes, size_t room)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {bytes, room};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t count = recvmsg(client->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (count >= 0)
		take_files(client, &message);
	return count;
}

/* Takes what fits, once. -errno: drop the client. */
static int read_input(struct client *client)
{
	size_t room = sizeof(client->input) - client->input_length;
	ssize_t count;

	if (client->input_closed || !room)
		return 0;
	count = receive(client, client->input + client->input_length, room);
	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (count == 0)
		client->input_closed = true;
	client->input_length += (size_t)count;
	return 0;
}

/*
 * After anything that happened: goes on with requests that were held back, drops a client that is
 * done, waits for what matters now.
 */
static void settle(struct client *client, int result)
{
	bool input_wanted;
	uint32_t events;

	if (!result)
		result = handle_input(client);
	if (!result)
		result = feed(client);
	if (result ||
	    (!client->output_length &&
	     (client->closing || (client->input_closed && !client->waits && !client->follows)))) {
		drop_client(client);
		return;
	}
	input_wanted = !client->input_closed && !client->closing &&
		       client->input_length < sizeof(client->input);
	events = (input_wanted ? EPOLLIN : 0u) | (client->output_length ? EPOLLOUT : 0u);
	if (client->output_length && !client->follows)
		run_timer(client->server);
	if (events != client->events) {
		if (event_source_modify(client->source, events)) {
			drop_client(client);
			return;
		}
		client->events = events;
	}
}

static void on_client(void *opaque, uint32_t events)
{
	struct client *client = opaque;
	int result = 0;

	if (events & EPOLLOUT)
		result = flush_output(client);
	if (!result && (events & (EPOLLIN | EPOLLHUP)))
		result = read_input(client);
	/* Gone: what it asked for is still done, but nobody reads an answer. */
	if (!result && (events & (EPOLLHUP | EPOLLERR)) && (client->waits || client->follows))
		result = -EPIPE;
	settle(client, result);
}

static struct client *find_waiting(const struct control_server *server)
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
	struct client *owner;

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
		settle(owner, send_answer(owner, code, answer, &error));
	} else if (code == CONTROL_OK) {
		json_decref(answer);
	}
}

static void tell_progress(struct control_server *server)
{
	struct client *owner = find_waiting(server);
	struct swap_status status;
	json_t *progress;

	swap_get_status(machine_swap(server->host.machine), &status);
	if (!status.current.running) {
		control_server_swap_done(server);
		return;
	}
	progress = control_operation_progress(&server->operation, &status);
	if (owner && !owner->output_length)
		settle(owner, send_line(owner, control_format_line("progress", progress)));
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
		struct client *client = server->clients[i];

		if (!client || !client->output_length || client->follows)
			continue;
		if (now_ns - client->output_since_ns >= server->host.stall_ns &&
		    now_ns > client->output_since_ns)
			drop_client(client);
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
		struct client *client = server->clients[i];

		if (client && client->follows && !client->output_length)
			settle(client, 0);
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
	struct client **slot = server->clients;
	struct client *client;

	while (slot < server->clients + CONTROL_CLIENTS_MAX && *slot)
		slot++;
	if (slot == server->clients + CONTROL_CLIENTS_MAX) {
		refuse(fd, CONTROL_BUSY, "too many clients; close one");
		return;
	}
	client = calloc(1, sizeof(*client));
	if (!client) {
		refuse(fd, CONTROL_FAILED, "no memory for another client");
		return;
	}
	client->server = server;
	client->fd = fd;
	client->events = EPOLLIN;
	if (event_loop_add(server->loop, fd, EPOLLIN, on_client, client, &client->source)) {
		refuse(fd, CONTROL_FAILED, "this client cannot be watched");
		free(client);
		return;
	}
	*slot = client;
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
		run_timer(server);
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
		struct client *client = server->clients[i];

		if (!client)
			continue;
		if (client->waits)
			send_error(client, CONTROL_QUITTING,
				   "the machine ended before the operation did");
		feed(client);
		drop_client(client);
	}
	control_operation_abandon(&server->operation);
	event_source_remove(server->news);
	close(server->events_fd);
	event_source_remove(server->listener);
	event_source_remove(server->timer);
	free(server);
}
