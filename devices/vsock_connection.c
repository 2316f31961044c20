#include "devices/vsock_connection.h"

#include <ctype.h>
#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* The guest hears of room again when it amounts to this. */
#define CREDIT_STEP (VSOCK_BUFFER_SIZE / 4)

int vsock_connection_create(int fd, enum vsock_state state, struct vsock_connection **out)
{
	struct vsock_connection *connection = calloc(1, sizeof(*connection));

	if (!connection)
		return -ENOMEM;
	connection->fd = fd;
	connection->state = state;
	*out = connection;
	return 0;
}

void vsock_connection_destroy(struct vsock_connection *connection)
{
	if (!connection)
		return;
	close(connection->fd);
	free(connection->buffer);
	free(connection);
}

/* "CONNECT PORT", any case, with nothing behind. */
static int parse_line(const char *line, uint32_t *port)
{
	static const char word[] = "connect ";
	unsigned long value;
	char *end;

	if (strncasecmp(line, word, strlen(word)) != 0 ||
	    !isdigit((unsigned char)line[strlen(word)]))
		return -EPROTO;
	errno = 0;
	value = strtoul(line + strlen(word), &end, 10);
	if (errno || value > UINT32_MAX || strcmp(end, *end == '\r' ? "\r" : "") != 0)
		return -EPROTO;
	*port = (uint32_t)value;
	return 1;
}

int vsock_connection_read_line(struct vsock_connection *connection, uint32_t *port)
{
	char *at = connection->line + connection->line_length;
	size_t room = sizeof(connection->line) - connection->line_length;
	ssize_t count = recv(connection->fd, at, room, MSG_PEEK | MSG_DONTWAIT);
	const char *newline;

	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!count)
		return -ECONNRESET;
	/* What follows the line is for the guest, and stays in the socket. */
	newline = memchr(at, '\n', (size_t)count);
	if (newline)
		count = newline - at + 1;
	if (recv(connection->fd, at, (size_t)count, MSG_DONTWAIT) != count)
		return -EIO;
	connection->line_length += (size_t)count;
	if (!newline)
		return connection->line_length == sizeof(connection->line) ? -EPROTO : 0;
	connection->line[connection->line_length - 1] = '\0';
	/* A zero in the midst would hide the rest. */
	if (strlen(connection->line) != connection->line_length - 1)
		return -EPROTO;
	return parse_line(connection->line, port);
}

static void want(struct vsock_connection *connection, unsigned op)
{
	connection->pending |= VSOCK_OP_BIT(op);
}

/* Ends the connection from our side. */
static void abort_connection(struct vsock_connection *connection)
{
	connection->state = VSOCK_DEAD;
	connection->pending = VSOCK_OP_BIT(VIRTIO_VSOCK_OP_RST);
	connection->deadline_ns = 0;
	shutdown(connection->fd, SHUT_RDWR); /* the host program hears of it now */
}

/* Tells the guest that we shall not receive or not send any more. Both: it should answer by RST. */
static void announce(struct vsock_connection *connection, uint32_t flags, uint64_t now_ns)
{
	uint32_t all = connection->local_shutdown | flags;

	if (connection->state != VSOCK_ESTABLISHED || all == connection->local_shutdown)
		return;
	connection->local_shutdown = all;
	want(connection, VIRTIO_VSOCK_OP_SHUTDOWN);
	if (all == VSOCK_SHUTDOWN_BOTH)
		connection->deadline_ns = now_ns + VSOCK_ANSWER_NS;
}

static void count_forwarded(struct vsock_connection *connection, size_t length)
{
	connection->forwarded += (uint32_t)length;
	if (connection->forwarded - connection->forwarded_told >= CREDIT_STEP &&
	    connection->state == VSOCK_ESTABLISHED)
		want(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
}

static void free_buffer(struct vsock_connection *connection)
{
	free(connection->buffer);
	connection->buffer = NULL;
	connection->start = connection->used = 0;
}

/* Nobody reads what the guest sends: it need not wait for that. */
static void stop_writing(struct vsock_connection *connection, uint64_t now_ns)
{
	if (connection->write_ended)
		return;
	connection->write_ended = true;
	count_forwarded(connection, connection->used);
	free_buffer(connection);
	if (connection->state == VSOCK_LINGERING)
		connection->state = VSOCK_DEAD;
	announce(connection, VIRTIO_VSOCK_SHUTDOWN_RCV, now_ns);
}

/* The guest's last byte has reached the host program. */
static void finish_writing(struct vsock_connection *connection, uint64_t now_ns)
{
	shutdown(connection->fd, SHUT_WR);
	/* Both directions are done: let the guest forget the connection. */
	if (connection->local_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		announce(connection, VIRTIO_VSOCK_SHUTDOWN_RCV, now_ns);
}

/* Sends to the host program: how much it took, 0 if it takes nothing now or for ever. */
static size_t send_to_host(struct vsock_connection *connection, const uint8_t *data, size_t length,
			   uint64_t now_ns)
{
	ssize_t sent = send(connection->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent >= 0)
		return (size_t)sent;
	if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
		stop_writing(connection, now_ns);
	return 0;
}

static void flush_buffer(struct vsock_connection *connection, uint64_t now_ns)
{
	while (connection->used) {
		size_t sent = send_to_host(connection, connection->buffer + connection->start,
					   connection->used, now_ns);

		if (!sent)
			return;
		connection->start += sent;
		connection->used -= sent;
		count_forwarded(connection, sent);
		if (connection->state == VSOCK_LINGERING)
			connection->deadline_ns = now_ns + VSOCK_LINGER_NS;
	}
	free_buffer(connection);
	if (connection->state == VSOCK_LINGERING)
		connection->state = VSOCK_DEAD;
	else if (connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
		finish_writing(connection, now_ns);
}

/* Keeps what the host program does not take now. False: no memory. */
static bool keep(struct vsock_connection *connection, const uint8_t *data, size_t length)
{
	if (!connection->buffer)
		connection->buffer = malloc(VSOCK_BUFFER_SIZE);
	if (!connection->buffer)
		return false;
	if (connection->start + connection->used + length > VSOCK_BUFFER_SIZE) {
		memmove(connection->buffer, connection->buffer + connection->start,
			connection->used);
		connection->start = 0;
	}
	memcpy(connection->buffer + connection->start + connection->used, data, length);
	connection->used += length;
	return true;
}

static enum vsock_outcome receive_data(struct vsock_connection *connection,
				       const struct vsock_packet *packet, const uint8_t *payload,
				       uint64_t now_ns)
{
	size_t length = packet->length;
	size_t sent = 0;

	/* More than it has credit for, or after it said that no more would come. */
	if (length > VSOCK_BUFFER_SIZE - connection->used ||
	    (connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND))
		return VSOCK_RESET;
	if (!connection->used && !connection->write_ended && length)
		sent = send_to_host(connection, payload, length, now_ns);
	if (connection->write_ended)
		sent = length; /* on its way when we told the guest to stop */
	count_forwarded(connection, sent);
	if (sent < length && !keep(connection, payload + sent, length - sent))
		return VSOCK_RESET;
	return VSOCK_KEEP;
}

static enum vsock_outcome receive_shutdown(struct vsock_connection *connection,
					   const struct vsock_packet *packet, uint64_t now_ns)
{
	connection->peer_shutdown |= packet->flags & VSOCK_SHUTDOWN_BOTH;
	if (connection->peer_shutdown == VSOCK_SHUTDOWN_BOTH)
		return VSOCK_CLOSE;
	if (packet->flags & VIRTIO_VSOCK_SHUTDOWN_RCV) {
		connection->read_ended = true;
		shutdown(connection->fd, SHUT_RD);
	}
	if ((packet->flags & VIRTIO_VSOCK_SHUTDOWN_SEND) && !connection->used)
		finish_writing(connection, now_ns);
	return VSOCK_KEEP;
}

static enum vsock_outcome receive_response(struct vsock_connection *connection)
{
	char line[VSOCK_LINE_MAX];
	int length;

	connection->state = VSOCK_ESTABLISHED;
	connection->deadline_ns = 0;
	connection->read_ready = true;
	/* The socket is fresh: there is room. Who has gone meanwhile is found when it is read. */
	length = snprintf(line, sizeof(line), "OK %u\n", connection->local_port);
	send(connection->fd, line, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
	return VSOCK_KEEP;
}

/*
 * False: the guest claims to have consumed what was never sent. A count behind the last one is of a
 * packet that another one overtook in the guest, which fills them in before it queues them.
 */
static bool take_credit(struct vsock_connection *connection, const struct vsock_packet *packet)
{
	uint32_t consumed = packet->fwd_cnt - connection->peer_fwd_cnt;
	uint32_t in_flight = connection->sent - connection->peer_fwd_cnt;

	if (consumed > in_flight)
		return (int32_t)consumed < 0;
	if (consumed || packet->buf_alloc != connection->peer_buf_alloc)
		connection->credit_asked = false;
	connection->peer_fwd_cnt = packet->fwd_cnt;
	connection->peer_buf_alloc = packet->buf_alloc;
	return true;
}

static uint32_t credit(const struct vsock_connection *connection)
{
	uint32_t in_flight = connection->sent - connection->peer_fwd_cnt;

	/* A guest may make its buffer smaller than what is under way. */
	return in_flight < connection->peer_buf_alloc ? connection->peer_buf_alloc - in_flight : 0;
}

enum vsock_outcome vsock_connection_receive(struct vsock_connection *connection,
					    const struct vsock_packet *packet,
					    const uint8_t *payload, uint64_t now_ns)
{
	if (packet->op == VIRTIO_VSOCK_OP_RST)
		return VSOCK_FORGET;
	if (connection->state == VSOCK_DEAD)
		return VSOCK_KEEP; /* our RST is on its way */
	if (!take_credit(connection, packet))
		return VSOCK_RESET;
	if (connection->state == VSOCK_REQUESTED)
		return packet->op == VIRTIO_VSOCK_OP_RESPONSE && !connection->pending
			       ? receive_response(connection)
			       : VSOCK_RESET;
	switch (packet->op) {
	case VIRTIO_VSOCK_OP_RW:
		return receive_data(connection, packet, payload, now_ns);
	case VIRTIO_VSOCK_OP_SHUTDOWN:
		return receive_shutdown(connection, packet, now_ns);
	case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
		want(connection, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		return VSOCK_KEEP;
	case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
		return VSOCK_KEEP;
	default: /* asks or answers what is settled */
		return VSOCK_RESET;
	}
}

bool vsock_connection_linger(struct vsock_connection *connection, uint64_t now_ns)
{
	if (!connection->used)
		return false;
	connection->state = VSOCK_LINGERING;
	connection->pending = 0;
	connection->deadline_ns = now_ns + VSOCK_LINGER_NS;
	return true;
}

/* The host program sends no more; if it has closed, it reads no more either. */
static void end_reading(struct vsock_connection *connection, uint64_t now_ns)
{
	connection->read_ended = true;
	announce(connection, VIRTIO_VSOCK_SHUTDOWN_SEND, now_ns);
	if ((connection->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) && !connection->used)
		announce(connection, VIRTIO_VSOCK_SHUTDOWN_RCV, now_ns);
}

static bool can_read(const struct vsock_connection *connection)
{
	return connection->state == VSOCK_ESTABLISHED && connection->read_ready &&
	       !connection->read_ended;
}

/* Reads for the guest: how much, 0 if there is nothing now. May make other packets pending. */
static size_t pull_data(struct vsock_connection *connection, uint8_t *payload, size_t room,
			uint64_t now_ns)
{
	size_t allowed = credit(connection);
	ssize_t count;

	if (!can_read(connection))
		return 0;
	if (!allowed) {
		if (!connection->credit_asked)
			want(connection, VIRTIO_VSOCK_OP_CREDIT_REQUEST);
		connection->credit_asked = true;
		return 0;
	}
	count = recv(connection->fd, payload, room < allowed ? room : allowed, MSG_DONTWAIT);
	if (count > 0) {
		connection->sent += (uint32_t)count;
		return (size_t)count;
	}
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		connection->read_ready = errno == EINTR;
	else if (count < 0)
		abort_connection(connection);
	else
		end_reading(connection, now_ns);
	return 0;
}

/* Which of the pending packets goes first. */
static unsigned pick_op(const struct vsock_connection *connection)
{
	static const unsigned order[] = {
		VIRTIO_VSOCK_OP_RST,           VIRTIO_VSOCK_OP_REQUEST,
		VIRTIO_VSOCK_OP_RESPONSE,      VIRTIO_VSOCK_OP_SHUTDOWN,
		VIRTIO_VSOCK_OP_CREDIT_UPDATE, VIRTIO_VSOCK_OP_CREDIT_REQUEST,
	};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (connection->pending & VSOCK_OP_BIT(order[i]))
			return order[i];
	return VIRTIO_VSOCK_OP_INVALID;
}

bool vsock_connection_pull(struct vsock_connection *connection, struct vsock_packet *packet,
			   uint8_t *payload, size_t room, uint64_t now_ns)
{
	const uint32_t first = VSOCK_OP_BIT(VIRTIO_VSOCK_OP_RST) |
			       VSOCK_OP_BIT(VIRTIO_VSOCK_OP_REQUEST) |
			       VSOCK_OP_BIT(VIRTIO_VSOCK_OP_RESPONSE);
	size_t length = 0;
	unsigned op;

	if (!(connection->pending & first))
		length = pull_data(connection, payload, room, now_ns);
	/* Data before SHUTDOWN; with it, the other side learns our credit anyway. */
	op = length ? VIRTIO_VSOCK_OP_RW : pick_op(connection);
	if (op == VIRTIO_VSOCK_OP_INVALID)
		return false;
	connection->pending &= ~(VSOCK_OP_BIT(op) | VSOCK_OP_BIT(VIRTIO_VSOCK_OP_CREDIT_UPDATE));
	connection->forwarded_told = connection->forwarded;
	*packet = (struct vsock_packet){
		.src_port = connection->local_port,
		.dst_port = connection->peer_port,
		.length = (uint32_t)length,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = op == VIRTIO_VSOCK_OP_SHUTDOWN ? connection->local_shutdown : 0,
		.buf_alloc = VSOCK_BUFFER_SIZE,
		.fwd_cnt = connection->forwarded,
	};
	return true;
}

bool vsock_connection_has_work(const struct vsock_connection *connection)
{
	if (connection->pending)
		return true;
	return can_read(connection) && (credit(connection) || !connection->credit_asked);
}

void vsock_connection_on_events(struct vsock_connection *connection, uint32_t events,
				uint64_t now_ns)
{
	bool gone = events & (EPOLLHUP | EPOLLERR);

	if (events & EPOLLOUT)
		flush_buffer(connection, now_ns);
	if (gone || (events & EPOLLIN))
		connection->read_ready = true;
	if (gone) {
		connection->hung_up = true;
		stop_writing(connection, now_ns);
		if (connection->read_ended)
			announce(connection, VSOCK_SHUTDOWN_BOTH, now_ns);
	}
}

uint32_t vsock_connection_interest(const struct vsock_connection *connection, bool *watch)
{
	uint32_t events = connection->used ? EPOLLOUT : 0;

	*watch = !connection->hung_up && connection->state != VSOCK_DEAD &&
		 connection->state != VSOCK_REQUESTED;
	if (connection->state == VSOCK_HANDSHAKE ||
	    (connection->state == VSOCK_ESTABLISHED && !connection->read_ended &&
	     !connection->read_ready))
		events |= EPOLLIN;
	return events;
}

void vsock_connection_expire(struct vsock_connection *connection)
{
	bool tell = connection->state == VSOCK_REQUESTED || connection->state == VSOCK_ESTABLISHED;

	abort_connection(connection);
	if (!tell)
		connection->pending = 0;
}
