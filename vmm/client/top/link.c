#include "vmm/client/top/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control/control_protocol.h"
#include "vmm/control/control_socket.h"

#define LINE_MAX_BYTES (4u << 20) /* an answer longer than this is none of ours */

int top_link_open(struct top_link *link, const char *name)
{
	char path[CONTROL_PATH_MAX];
	int result = control_socket_find(name, path, NULL);

	*link = (struct top_link){.fd = -1};
	if (!result)
		result = control_socket_connect_nowait(path, name, &link->fd, NULL);
	return result;
}

void top_link_close(struct top_link *link)
{
	if (link->fd >= 0)
		close(link->fd);
	free(link->input);
	*link = (struct top_link){.fd = -1};
}

int top_link_send(struct top_link *link, const char *command, const char *argument)
{
	char *line = control_format_request(command, &argument, argument ? 1 : 0);
	size_t length = line ? strlen(line) : 0;
	ssize_t sent;

	if (!line)
		return -ENOMEM;
	/* Requests are tiny, and few of them under way: the socket takes a whole one or is stuck. */
	sent = send(link->fd, line, length, MSG_NOSIGNAL);
	free(line);
	if (sent < 0)
		return -errno;
	return (size_t)sent == length ? 0 : -EAGAIN;
}

int top_link_read(struct top_link *link)
{
	ssize_t count;

	if (link->length == link->capacity) {
		size_t capacity = link->capacity ? link->capacity * 2 : 8192;
		char *input = capacity <= LINE_MAX_BYTES ? realloc(link->input, capacity) : NULL;

		if (!input)
			return -EMSGSIZE;
		link->input = input;
		link->capacity = capacity;
	}
	count = recv(link->fd, link->input + link->length, link->capacity - link->length, 0);
	if (count > 0) {
		link->length += (size_t)count;
		return 0;
	}
	if (count == 0)
		return -ECONNRESET;
	return errno == EINTR ? -EAGAIN : -errno;
}

bool top_link_next(struct top_link *link, json_t **message)
{
	char *end = link->length ? memchr(link->input, '\n', link->length) : NULL;
	size_t length;

	if (!end)
		return false;
	length = (size_t)(end - link->input);
	*message = json_loadb(link->input, length, JSON_REJECT_DUPLICATES, NULL);
	link->length -= length + 1;
	memmove(link->input, end + 1, link->length);
	return true;
}
