#include "vmm/client/control_client.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/unix_socket.h"
#include "vmm/control/control_socket.h"

#define LINE_MAX_BYTES (4u << 20) /* an answer longer than this is none of ours */

struct control_client {
	int fd;
	int timeout_ms; /* -1: none */
	char *buffer;   /* received, not consumed */
	size_t length;
	size_t capacity;
	int file;      /* goes with the next request; 0: none */
	char name[80]; /* for messages */
};

/* Readable when SIGINT came, which is blocked; -1: SIGINT does what it does by default. */
static int interrupt_fd = -1;

int control_client_catch_interrupt(void)
{
	sigset_t interrupt;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	if (sigprocmask(SIG_BLOCK, &interrupt, NULL))
		return -errno;
	interrupt_fd = signalfd(interrupt_fd, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
	return interrupt_fd < 0 ? -errno : 0;
}

int control_client_connect(const char *name, const char *path, struct control_client **out,
			   struct error *err)
{
	struct control_client *client;
	char found[CONTROL_PATH_MAX];
	int result;

	if (!path) {
		result = control_socket_find(name, found, err);
		if (result)
			return result;
		path = found;
	}
	client = calloc(1, sizeof(*client));
	if (!client)
		return error_errno(err, ENOMEM, "control client");
	client->timeout_ms = -1;
	snprintf(client->name, sizeof(client->name), "%s", name);
	result = control_socket_connect(path, name, &client->fd, err);
	if (result) {
		free(client);
		return result;
	}
	*out = client;
	return 0;
}

void control_client_destroy(struct control_client *client)
{
	if (!client)
		return;
	close(client->fd);
	free(client->buffer);
	free(client);
}

void control_client_set_timeout(struct control_client *client, unsigned milliseconds)
{
	client->timeout_ms = milliseconds ? (int)milliseconds : -1;
}

int control_client_fd(const struct control_client *client)
{
	return client->fd;
}

static int say_gone(const struct control_client *client, struct error *err)
{
	return error_say(err, ECONNRESET, "machine \"%s\" ended", client->name);
}

void control_client_pass_file(struct control_client *client, int fd)
{
	client->file = fd;
}

/* Like send(2); the file goes with the first byte. */
static ssize_t send_some(struct control_client *client, const char *bytes, size_t length)
{
	ssize_t count =
		unix_socket_send(client->fd, bytes, length, client->file ? client->file : -1, 0);

	if (count > 0)
		client->file = 0;
	return count;
}

static int send_request(struct control_client *client, char *line, struct error *err)
{
	size_t length;
	size_t sent = 0;

	if (!line)
		return error_say(err, EINVAL, "the command cannot be sent: it is not valid UTF-8");
	length = strlen(line);
	if (length > CONTROL_REQUEST_MAX)
		return error_say(err, EINVAL, "the command is too long (%u bytes at most)",
				 CONTROL_REQUEST_MAX);
	while (sent < length) {
		ssize_t count = send_some(client, line + sent, length - sent);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0 && (errno == EPIPE || errno == ECONNRESET))
			return say_gone(client, err);
		if (count < 0)
			return error_errno(err, errno, "control socket of \"%s\"", client->name);
		sent += (size_t)count;
	}
	return 0;
}

/* Waits for input; tells the watcher about interrupts. */
static int await_input(const struct control_client *client, const struct control_watch *watch,
		       struct error *err)
{
	struct pollfd wanted[2] = {
		{.fd = client->fd, .events = POLLIN},
		{.fd = interrupt_fd, .events = POLLIN}, /* if negative, poll() ignores it */
	};

	for (;;) {
		struct signalfd_siginfo info;
		int ready = poll(wanted, 2, client->timeout_ms);

		if (ready > 0 && wanted[1].revents) {
			if (read(interrupt_fd, &info, sizeof(info)) == sizeof(info) && watch &&
			    watch->interrupted && watch->interrupted(watch->opaque))
				return error_say(err, EINTR, "interrupted");
			continue;
		}
		if (ready > 0)
			return 0;
		if (ready == 0)
			return error_say(err, ETIMEDOUT, "machine \"%s\" does not answer",
					 client->name);
		if (errno != EINTR)
			return error_errno(err, errno, "poll");
	}
}

static int receive_more(struct control_client *client, const struct control_watch *watch,
			struct error *err)
{
	ssize_t count;
	int result;

	if (client->length == client->capacity) {
		size_t capacity = client->capacity ? client->capacity * 2 : 4096;
		char *buffer =
			capacity <= LINE_MAX_BYTES ? realloc(client->buffer, capacity) : NULL;

		if (!buffer)
			return error_say(err, EMSGSIZE, "machine \"%s\": its answer is too long",
					 client->name);
		client->buffer = buffer;
		client->capacity = capacity;
	}
	result = await_input(client, watch, err);
	if (result)
		return result;
	count = recv(client->fd, client->buffer + client->length, client->capacity - client->length,
		     0);
	if (count < 0 && errno == EINTR)
		return 0;
	if (count == 0 || (count < 0 && errno == ECONNRESET))
		return say_gone(client, err);
	if (count < 0)
		return error_errno(err, errno, "control socket of \"%s\"", client->name);
	client->length += (size_t)count;
	return 0;
}

/* The next line, without its newline, to be freed. */
static int receive_line(struct control_client *client, const struct control_watch *watch,
			char **line, struct error *err)
{
	for (;;) {
		char *end = client->length ? memchr(client->buffer, '\n', client->length) : NULL;
		int result;

		if (end) {
			size_t length = (size_t)(end - client->buffer);

			*line = strndup(client->buffer, length);
			if (!*line)
				return error_errno(err, ENOMEM, "answer");
			client->length -= length + 1;
			memmove(client->buffer, end + 1, client->length);
			return 0;
		}
		result = receive_more(client, watch, err);
		if (result)
			return result;
	}
}

/* One line of an answer: 0 it was the last, 1 there are more, -errno. */
static int take_line(const struct control_client *client, const char *line,
		     const struct control_watch *watch, enum control_code *code, json_t **answer,
		     struct error *err)
{
	const char *kind;
	const json_t *body;
	json_t *json = control_answer_parse(line, &kind, &body);
	int result = 0;

	if (!json)
		return error_say(err, EPROTO,
				 "machine \"%s\": its answer is not understood (another version "
				 "of ebb?)",
				 client->name);
	if (watch && watch->line)
		watch->line(watch->opaque, line, kind, body);
	if (!strcmp(kind, "result")) {
		*code = CONTROL_OK;
		*answer = json_incref(json_object_get(json, kind));
	} else if (!strcmp(kind, "error")) {
		*code = control_answer_error(body, err);
	} else {
		result = 1;
	}
	json_decref(json);
	return result;
}

int control_client_call(struct control_client *client, const char *command,
			const char *const *arguments, size_t count,
			const struct control_watch *watch, enum control_code *code, json_t **answer,
			struct error *err)
{
	char *line = control_format_request(command, arguments, count);
	int result = send_request(client, line, err);

	free(line);
	if (result)
		return result;
	do {
		result = receive_line(client, watch, &line, err);
		if (result)
			return result;
		result = take_line(client, line, watch, code, answer, err);
		free(line);
	} while (result > 0);
	return result;
}

int control_client_follow(struct control_client *client, const char *command,
			  const char *const *arguments, size_t count,
			  const struct control_watch *watch, enum control_code *code,
			  struct error *err)
{
	json_t *answer = NULL;
	int result;

	*code = CONTROL_FAILED;
	result = control_client_call(client, command, arguments, count, watch, code, &answer, err);

	if (!result && *code == CONTROL_OK) {
		json_decref(answer);
		return error_say(err, EPROTO, "machine \"%s\": its answer is not understood",
				 client->name);
	}
	if (result != -ECONNRESET)
		return result;
	*code = CONTROL_OK;
	return 0;
}

void control_client_cancel(const char *name, const char *path)
{
	struct control_client *client = NULL;
	enum control_code code = CONTROL_FAILED;
	json_t *answer = NULL;
	struct error error;

	if (control_client_connect(name, path, &client, &error))
		return;
	assert(client);
	control_client_set_timeout(client, 2000);
	if (!control_client_call(client, "swap cancel", NULL, 0, NULL, &code, &answer, &error) &&
	    code == CONTROL_OK)
		json_decref(answer);
	control_client_destroy(client);
}
