/*
 * One vsock connection between a guest that sends what it likes and a host program that reads,
 * writes and closes when it likes. Whatever they do: no more is kept than the guest had credit for,
 * and no more is sent than the guest has given credit for.
 */
#include "devices/vsock_connection.h"

#include <assert.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/input.h"

#define GUEST_CID 3u

struct line {
	struct vsock_connection *connection;
	int host; /* the program's end; -1 once it is closed */
	uint64_t now_ns;
	bool ended;
};

static void receive(struct line *line, struct fuzz_input *input)
{
	static uint8_t payload[VSOCK_BUFFER_SIZE];
	struct vsock_connection *connection = line->connection;
	uint8_t shape = fuzz_u8(input);
	struct vsock_packet packet = {
		.src_cid = GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = shape & 7,
		.flags = fuzz_u8(input),
		.length = fuzz_u16(input),
		/* Honest figures reach deeper. */
		.buf_alloc = shape & 0x10 ? fuzz_u32(input) : 65536,
		.fwd_cnt = shape & 0x20 ? fuzz_u32(input) : connection->sent,
	};

	if (vsock_packet_judge(&packet, sizeof(payload), GUEST_CID) != VSOCK_TAKE)
		return;
	switch (vsock_connection_receive(connection, &packet, payload, line->now_ns)) {
	case VSOCK_KEEP:
		break;
	case VSOCK_CLOSE:
		line->ended = !vsock_connection_linger(connection, line->now_ns);
		break;
	case VSOCK_RESET:
	case VSOCK_FORGET:
		line->ended = true;
		break;
	}
}

static void pull(struct line *line, struct fuzz_input *input)
{
	static uint8_t payload[VSOCK_BUFFER_SIZE];
	struct vsock_connection *connection = line->connection;
	size_t room = (size_t)fuzz_u16(input) + 1;
	uint8_t bytes[VSOCK_HEADER_SIZE];
	struct vsock_packet packet, back;
	bool work = vsock_connection_has_work(connection);

	if (room > sizeof(payload))
		room = sizeof(payload);
	if (!vsock_connection_pull(connection, &packet, payload, room, line->now_ns))
		return;
	assert(work);
	assert(packet.length <= room);
	if (packet.length)
		assert(connection->sent - connection->peer_fwd_cnt <= connection->peer_buf_alloc);
	packet.src_cid = VSOCK_HOST_CID;
	packet.dst_cid = GUEST_CID;
	vsock_packet_encode(&packet, bytes);
	vsock_packet_decode(bytes, &back);
	assert(back.length == packet.length && back.op == packet.op);
}

static void events(struct line *line, struct fuzz_input *input)
{
	const uint32_t kinds[] = {EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLIN | EPOLLHUP};

	vsock_connection_on_events(line->connection, kinds[fuzz_u8(input) & 3], line->now_ns);
}

static void host(struct line *line, struct fuzz_input *input)
{
	static uint8_t data[65536];
	uint8_t what = fuzz_u8(input);
	size_t length = fuzz_u16(input);

	if (line->host < 0)
		return;
	switch (what & 3) {
	case 0:
		send(line->host, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		recv(line->host, data, length, MSG_DONTWAIT);
		break;
	case 2:
		shutdown(line->host, length % 3);
		break;
	case 3:
		close(line->host);
		line->host = -1;
		break;
	}
}

static void step(struct line *line, struct fuzz_input *input)
{
	bool watch;

	switch (fuzz_u8(input) & 7) {
	case 0:
	case 1:
	case 2:
		/* The guest does not know of one that lingers. */
		if (line->connection->state != VSOCK_LINGERING)
			receive(line, input);
		break;
	case 3:
	case 4:
		pull(line, input);
		break;
	case 5:
		events(line, input);
		break;
	case 6:
		host(line, input);
		break;
	case 7:
		line->now_ns += 1000000000;
		if (line->connection->deadline_ns && line->now_ns > line->connection->deadline_ns)
			vsock_connection_expire(line->connection);
		break;
	}
	assert(line->connection->used <= VSOCK_BUFFER_SIZE);
	vsock_connection_interest(line->connection, &watch);
}

static void shake_hands(struct line *line, struct fuzz_input *input)
{
	uint8_t text[VSOCK_LINE_MAX + 8];
	size_t length = fuzz_u8(input) % sizeof(text);
	uint32_t port;

	fuzz_take(input, text, length);
	send(line->host, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (vsock_connection_read_line(line->connection, &port) == 1)
		assert(line->connection->line_length <= VSOCK_LINE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct line line = {.now_ns = 1};
	uint8_t start = fuzz_u8(&input);
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		abort();
	line.host = fds[1];
	if (vsock_connection_create(fds[0], VSOCK_HANDSHAKE, &line.connection))
		abort();
	if (start & 1)
		shake_hands(&line, &input);
	line.connection->state = start & 2 ? VSOCK_REQUESTED : VSOCK_ESTABLISHED;
	line.connection->peer_buf_alloc = 65536;
	while (fuzz_more(&input) && !line.ended && line.connection->state != VSOCK_DEAD)
		step(&line, &input);
	vsock_connection_destroy(line.connection);
	if (line.host >= 0)
		close(line.host);
	return 0;
}
