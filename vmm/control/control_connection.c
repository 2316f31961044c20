#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/control/control_server_internal.h"
#include "vmm/control/events.h"

void connection_forget_file(struct control_connection *client)
{
	if (client->file)
		close(client->file);
	client->file = 0;
}

void connection_drop(struct control_connection *client)
{
	struct control_server *server = client->server;

	for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (server->clients[i] == client)
			server->clients[i] = NULL;
	}
	event_source_remove(client->source);
	close(client->fd);
	connection_forget_file(client);
	free(client->output);
	free(client);
}

/* ---- output ---- */

/* Sends what the socket takes. -errno if the client is gone. */
static int flush_output(struct control_connection *client)
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

int connection_send_line(struct control_connection *client, char *line)
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

int connection_send_error(struct control_connection *client, enum control_code code,
			  const char *message)
{
	/* analyzer-ok: the output is the client's, who frees it. */
	return connection_send_line(client, control_format_error(code, message));
}

int connection_send_answer(struct control_connection *client, enum control_code code,
			   json_t *answer, const struct error *error)
{
	if (code != CONTROL_OK)
		return connection_send_error(client, code, error->text);
	return connection_send_line(client, control_format_line("result", answer));
}

int connection_feed(struct control_connection *client)
{
	while (client->follows && !client->output_length) {
		char *line = events_next(client->server->host.events, &client->sequence);
		int result;

		if (!line)
			return 0;
		result = connection_send_line(client, line);
		if (result)
			return result;
	}
	return 0;
}

/* ---- input ---- */

/* Handles the complete requests that may be handled now. -errno: drop the client. */
static int handle_input(struct control_connection *client)
{
	while (!client->waits && !client->follows && !client->closing && !client->output_length) {
		char *end = memchr(client->input, '\n', client->input_length);
		size_t used;
		int result;

		if (!end) {
			if (client->input_length < sizeof(client->input))
				return 0;
			client->closing = true;
			return connection_send_error(client, CONTROL_INVALID_REQUEST,
						     "the request is too long");
		}
		used = (size_t)(end - client->input) + 1;
		result = control_request_handle(client, client->input, used - 1);
		if (result)
			return result;
		client->input_length -= used;
		memmove(client->input, client->input + used, client->input_length);
	}
	return 0;
}

/* Keeps the last of the descriptors that came, and closes the others. */
static void take_files(struct control_connection *client, struct msghdr *message)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part;
	     part = CMSG_NXTHDR(message, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			connection_forget_file(client);
			memcpy(&client->file, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
		}
	}
}

/* Like recv(2). What else is sent than one descriptor is not even received. */
static ssize_t receive(struct control_connection *client, void *bytes, size_t room)
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
static int read_input(struct control_connection *client)
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

/* ---- what is to be done next ---- */

void connection_settle(struct control_connection *client, int result)
{
	bool input_wanted;
	uint32_t events;

	if (!result)
		result = handle_input(client);
	if (!result)
		result = connection_feed(client);
	if (result ||
	    (!client->output_length &&
	     (client->closing || (client->input_closed && !client->waits && !client->follows)))) {
		connection_drop(client);
		return;
	}
	input_wanted = !client->input_closed && !client->closing &&
		       client->input_length < sizeof(client->input);
	events = (input_wanted ? EPOLLIN : 0u) | (client->output_length ? EPOLLOUT : 0u);
	if (client->output_length && !client->follows)
		control_server_run_timer(client->server);
	if (events != client->events) {
		if (event_source_modify(client->source, events)) {
			connection_drop(client);
			return;
		}
		client->events = events;
	}
}

static void on_client(void *opaque, uint32_t events)
{
	struct control_connection *client = opaque;
	int result = 0;

	if (events & EPOLLOUT)
		result = flush_output(client);
	if (!result && (events & (EPOLLIN | EPOLLHUP)))
		result = read_input(client);
	/* Gone: what it asked for is still done, but nobody reads an answer. */
	if (!result && (events & (EPOLLHUP | EPOLLERR)) && (client->waits || client->follows))
		result = -EPIPE;
	connection_settle(client, result);
}

int connection_create(struct control_server *server, int fd, struct control_connection **out)
{
	struct control_connection *client = calloc(1, sizeof(*client));
	int result;

	if (!client)
		return -ENOMEM;
	client->server = server;
	client->fd = fd;
	client->events = EPOLLIN;
	result = event_loop_add(server->loop, fd, EPOLLIN, on_client, client, &client->source);
	if (result) {
		free(client);
		return result;
	}
	*out = client;
	return 0;
}
