#include "vsock.h"

#include "runtime.h"
#include "virtio.h"

#define QUEUE_RX 0
#define QUEUE_TX 1

#define HOST_CID  2
#define ECHO_PORT 7
#define TYPE      1

#define OP_REQUEST        1
#define OP_RESPONSE       2
#define OP_RST            3
#define OP_SHUTDOWN       4
#define OP_RW             5
#define OP_CREDIT_UPDATE  6
#define OP_CREDIT_REQUEST 7
#define SHUTDOWN_SEND     2
#define SHUTDOWN_BOTH     3

#define BUFFERS          16
#define PAYLOAD_MAX      4096
#define CONNECTIONS_MAX  64
#define CONNECTION_BYTES 8192u
#define FIRST_PORT       50000
#define FLOOD_PORT       4000000000u

#define QUEUE_NOTIFY 0x50

/* About a minute. */
#define TIMEOUT_CYCLES (1ull << 37)

struct header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, length;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct packet {
	struct header header;
	uint8_t payload[PAYLOAD_MAX];
};

enum state {
	FREE,
	CONNECTING,
	OPEN,
	ENDED
};

struct connection {
	enum state state;
	bool is_client;
	bool host_ended; /* SHUTDOWN of its sending half came */
	bool said_end;
	uint32_t port, host_port;
	uint32_t sent, peer_buf_alloc, peer_fwd_cnt;
	uint32_t forwarded, told;
	uint64_t received; /* by a client, which checks the pattern */
	bool damaged;
	uint32_t start, used; /* what still has to be echoed, in a circle */
	uint8_t data[CONNECTION_BYTES];
};

static struct virtio device;
static bool present;
static uint64_t cid;
static struct packet buffers[BUFFERS];
static struct header tx_header;
static uint8_t tx_data[PAYLOAD_MAX];
static struct connection connections[CONNECTIONS_MAX];
static uint64_t accepted, echoed, resets;
static uint32_t next_port = FIRST_PORT;

static unsigned queue_count(uint64_t features)
{
	(void)features;
	return 3;
}

static void give_buffer(uint16_t index)
{
	struct virtq *queue = device.queues[QUEUE_RX];

	queue->desc[index] = (struct virtq_desc){(uint64_t)&buffers[index], sizeof(buffers[index]),
						 VIRTQ_DESC_WRITE, 0};
	queue->avail.ring[queue->avail.index % VIRTQ_SIZE] = index;
	__atomic_store_n(&queue->avail.index, (uint16_t)(queue->avail.index + 1), __ATOMIC_SEQ_CST);
}

static void notify_rx(void)
{
	mmio_write32(device.base + QUEUE_NOTIFY, QUEUE_RX);
}

const char *vsock_start(uint64_t base)
{
	const char *problem = virtio_start(&device, base, 0, queue_count);

	if (problem)
		return problem;
	cid = mmio_read32(base + VIRTIO_CONFIG) | (uint64_t)mmio_read32(base + VIRTIO_CONFIG + 4)
							  << 32;
	for (uint16_t i = 0; i < BUFFERS; i++)
		give_buffer(i);
	notify_rx();
	present = true;
	return NULL;
}

/* Sends what tx_header describes but for addresses and credit of @connection (may be NULL). */
static void send(const struct connection *connection, uint32_t port, uint32_t host_port,
		 uint16_t op, uint32_t flags, const void *data, uint32_t length)
{
	struct virtq_desc *desc = device.queues[QUEUE_TX]->desc;
	const char *problem;

	tx_header = (struct header){
		.src_cid = cid,
		.dst_cid = HOST_CID,
		.src_port = port,
		.dst_port = host_port,
		.length = length,
		.type = TYPE,
		.op = op,
		.flags = flags,
		.buf_alloc = CONNECTION_BYTES,
		.fwd_cnt = connection ? connection->forwarded : 0,
	};
	desc[0] = (struct virtq_desc){(uint64_t)&tx_header, sizeof(tx_header), 0, 0};
	desc[1] = (struct virtq_desc){(uint64_t)data, length, 0, 0};
	problem = virtio_request(&device, QUEUE_TX, length ? 2 : 1, NULL);
	if (problem)
		print("vsock: %s\r\n", problem);
}

static void send_op(struct connection *connection, uint16_t op, uint32_t flags)
{
	connection->told = connection->forwarded;
	send(connection, connection->port, connection->host_port, op, flags, NULL, 0);
}

static struct connection *find(uint32_t port, uint32_t host_port)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *connection = &connections[i];

		if (connection->state != FREE && connection->port == port &&
		    connection->host_port == host_port)
			return connection;
	}
	return NULL;
}

static struct connection *add(uint32_t port, uint32_t host_port)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		struct connection *connection = &connections[i];

		if (connection->state != FREE)
			continue;
		connection->is_client = connection->host_ended = connection->said_end = false;
		connection->damaged = false;
		connection->port = port;
		connection->host_port = host_port;
		connection->sent = connection->peer_buf_alloc = connection->peer_fwd_cnt = 0;
		connection->forwarded = connection->told = 0;
		connection->received = 0;
		connection->start = connection->used = 0;
		return connection;
	}
	return NULL;
}

static uint32_t credit(const struct connection *connection)
{
	uint32_t in_flight = connection->sent - connection->peer_fwd_cnt;

	return in_flight < connection->peer_buf_alloc ? connection->peer_buf_alloc - in_flight : 0;
}

static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(mix(offset / 64) >> offset % 56);
}

/* The host has sent @length bytes. */
static void take_data(struct connection *connection, const uint8_t *data, uint32_t length)
{
	if (length > CONNECTION_BYTES - connection->used) {
		connection->damaged = true; /* more than it had credit for */
		return;
	}
	for (uint32_t i = 0; i < length; i++) {
		if (connection->is_client)
			connection->damaged |= data[i] != pattern(connection->received++);
		else
			connection->data[(connection->start + connection->used++) %
					 CONNECTION_BYTES] = data[i];
	}
	if (!connection->is_client)
		return;
	connection->forwarded += length;
	if (connection->forwarded - connection->told >= CONNECTION_BYTES / 2)
		send_op(connection, OP_CREDIT_UPDATE, 0);
}

/* Sends back what it can. */
static void echo(struct connection *connection)
{
	while (connection->used) {
		uint32_t length = CONNECTION_BYTES - connection->start;
		uint32_t allowed = credit(connection);
		const uint8_t *data = connection->data + connection->start;

		if (length > connection->used)
			length = connection->used;
		if (length > PAYLOAD_MAX)
			length = PAYLOAD_MAX;
		if (length > allowed)
			length = allowed;
		if (!length)
			return;
		connection->forwarded += length; /* its room is free once the packet is taken */
		connection->told = connection->forwarded;
		send(connection, connection->port, connection->host_port, OP_RW, 0, data, length);
		connection->sent += length;
		connection->start = (connection->start + length) % CONNECTION_BYTES;
		connection->used -= length;
		echoed += length;
	}
	if (connection->host_ended && !connection->said_end) {
		connection->said_end = true;
		send_op(connection, OP_SHUTDOWN, SHUTDOWN_BOTH);
	}
}

static void take_request(const struct header *header)
{
	struct connection *connection = NULL;

	if (header->dst_port == ECHO_PORT)
		connection = add(header->dst_port, header->src_port);
	if (!connection) {
		send(NULL, header->dst_port, header->src_port, OP_RST, 0, NULL, 0);
		return;
	}
	connection->state = OPEN;
	connection->peer_buf_alloc = header->buf_alloc;
	accepted++;
	send_op(connection, OP_RESPONSE, 0);
}

static void take_shutdown(struct connection *connection, uint32_t flags)
{
	if ((flags & SHUTDOWN_BOTH) == SHUTDOWN_BOTH) {
		send_op(connection, OP_RST, 0);
		connection->state = connection->is_client ? ENDED : FREE;
	} else if (flags & SHUTDOWN_SEND) {
		connection->host_ended = true;
	}
}

static void take_packet(const struct packet *packet)
{
	const struct header *header = &packet->header;
	struct connection *connection = find(header->dst_port, header->src_port);

	if (header->op == OP_RST)
		resets++;
	if (!connection && header->op == OP_REQUEST)
		take_request(header);
	else if (!connection && header->op != OP_RST)
		send(NULL, header->dst_port, header->src_port, OP_RST, 0, NULL, 0);
	if (!connection)
		return;
	connection->peer_buf_alloc = header->buf_alloc;
	connection->peer_fwd_cnt = header->fwd_cnt;
	switch (header->op) {
	case OP_RESPONSE:
		connection->state = OPEN;
		break;
	case OP_RW:
		take_data(connection, packet->payload, header->length);
		break;
	case OP_SHUTDOWN:
		take_shutdown(connection, header->flags);
		break;
	case OP_CREDIT_REQUEST:
		send_op(connection, OP_CREDIT_UPDATE, 0);
		break;
	case OP_RST:
		connection->state = connection->is_client ? ENDED : FREE;
		break;
	}
}

static void poll(void)
{
	struct virtq *queue = device.queues[QUEUE_RX];

	while (__atomic_load_n(&queue->used.index, __ATOMIC_ACQUIRE) !=
	       device.used_seen[QUEUE_RX]) {
		uint16_t seen = device.used_seen[QUEUE_RX]++;
		uint16_t index = (uint16_t)queue->used.ring[seen % VIRTQ_SIZE].id;

		take_packet(&buffers[index]);
		give_buffer(index);
		notify_rx();
		for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
			if (connections[i].state == OPEN && !connections[i].is_client)
				echo(&connections[i]);
	}
}

void vsock_poll_until(bool (*done)(void))
{
	while (present && !done()) {
		/* Looking at a port costs far more than looking at a ring. */
		for (unsigned i = 0; i < 256; i++) {
			poll();
			cpu_pause();
		}
	}
}

void vsock_command_info(const uint64_t *arguments)
{
	uint64_t open = 0, damaged = 0;

	(void)arguments;
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		open += connections[i].state != FREE;
		damaged += connections[i].damaged;
	}
	answer_ok("present=%u cid=%u open=%u accepted=%u echoed=%u resets=%u damaged=%u",
		  (uint64_t)present, cid, open, accepted, echoed, resets, damaged);
}

/* Polls until the connection leaves @state. False: it takes too long. */
static bool leaves(const struct connection *connection, enum state state)
{
	uint64_t start = rdtsc();

	while (connection->state == state) {
		if (rdtsc() - start > TIMEOUT_CYCLES)
			return false;
		poll();
	}
	return true;
}

/* Sends @length bytes of the pattern, and takes as many. NULL, or why it did not work. */
static const char *exchange(struct connection *connection, uint64_t length)
{
	uint64_t done = 0, start = rdtsc();

	while (done < length || connection->received < length) {
		uint32_t part = credit(connection);

		if (part > PAYLOAD_MAX)
			part = PAYLOAD_MAX;
		if (part > length - done)
			part = (uint32_t)(length - done);
		for (uint32_t i = 0; i < part; i++)
			tx_data[i] = pattern(done + i);
		if (part) {
			connection->told = connection->forwarded;
			send(connection, connection->port, connection->host_port, OP_RW, 0, tx_data,
			     part);
			connection->sent += part;
			done += part;
		}
		poll();
		if (connection->state != OPEN)
			return "the host has closed";
		if (connection->damaged)
			return "what came back differs";
		if (rdtsc() - start > TIMEOUT_CYCLES)
			return "it does not come back";
	}
	return NULL;
}

void vsock_command_connect(const uint64_t *arguments)
{
	struct connection *connection = present ? add(next_port, (uint32_t)arguments[0]) : NULL;
	const char *problem = NULL;

	if (!connection) {
		answer_fail("no vsock, or no connection left");
		return;
	}
	next_port++;
	connection->is_client = true;
	connection->state = CONNECTING;
	send_op(connection, OP_REQUEST, 0);
	if (!leaves(connection, CONNECTING))
		problem = "no answer";
	else if (connection->state == ENDED)
		problem = "refused";
	else
		problem = exchange(connection, arguments[1]);
	if (!problem) {
		send_op(connection, OP_SHUTDOWN, SHUTDOWN_BOTH);
		if (!leaves(connection, OPEN))
			problem = "no RST at the end";
	}
	connection->state = FREE;
	if (problem)
		answer_fail("%s", problem);
	else
		answer_ok("received=%u", connection->received);
}

void vsock_command_flood(const uint64_t *arguments)
{
	uint64_t start = rdtsc(), before = resets;

	if (!present) {
		answer_fail("no vsock");
		return;
	}
	for (uint64_t i = 0; i < arguments[0]; i++) {
		send(NULL, (uint32_t)i, FLOOD_PORT, OP_REQUEST, 0, NULL, 0);
		poll();
	}
	while (resets - before < arguments[0] && rdtsc() - start < TIMEOUT_CYCLES)
		poll();
	answer_ok("resets=%u", resets - before);
}
