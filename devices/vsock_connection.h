/*
 * One vsock stream: a socket of the host on one side, packets of the guest on the other.
 *
 * Guest to host, bytes go straight to the socket; what a slow reader does not take is kept in a
 * buffer of VSOCK_BUFFER_SIZE bytes, which is all the credit that the guest is given (virtio 1.2,
 * section 5.10.6.3). Host to guest, bytes are read from the socket when there is a buffer of the
 * guest's to put them in and credit to send them, never before.
 *
 * No lock and no event loop here: the owner (vsock_muxer.c) serialises, watches the socket for
 * vsock_connection_interest(), and destroys the connection when it is VSOCK_DEAD with nothing
 * pending. The connection owns its socket, which is non-blocking. Times are CLOCK_MONOTONIC in ns.
 */
#ifndef EBB_DEVICES_VSOCK_CONNECTION_H
#define EBB_DEVICES_VSOCK_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "devices/vsock_packet.h"
#include "vmm/base/event_loop.h"

#define VSOCK_BUFFER_SIZE   65536u
#define VSOCK_LINE_MAX      32u                     /* "CONNECT 4294967295\r\n" and then some */
#define VSOCK_ANSWER_NS     (10ull * 1000000000ull) /* for CONNECT, RESPONSE and the last RST */
#define VSOCK_LINGER_NS     (30ull * 1000000000ull) /* for a reader, after the guest has closed */
#define VSOCK_OP_BIT(op)    (1u << (op))
#define VSOCK_SHUTDOWN_BOTH 3u

enum vsock_state {
	VSOCK_HANDSHAKE,   /* a host program has connected, and not said CONNECT yet */
	VSOCK_REQUESTED,   /* the guest is asked, and has not answered yet */
	VSOCK_ESTABLISHED, /* bytes flow */
	VSOCK_LINGERING,   /* the guest is done; the host program still has to read */
	VSOCK_DEAD,        /* an RST may still have to go to the guest */
};

/* What a packet of the guest did to the connection. */
enum vsock_outcome {
	VSOCK_KEEP,
	VSOCK_RESET,  /* a breach of the protocol: answer by RST, destroy */
	VSOCK_CLOSE,  /* an orderly end: answer by RST, then as vsock_connection_linger() says */
	VSOCK_FORGET, /* the guest sent an RST: destroy */
};

struct vsock_connection {
	/* The owner's. */
	TAILQ_ENTRY(vsock_connection) all_link;
	TAILQ_ENTRY(vsock_connection) ready_link;
	LIST_ENTRY(vsock_connection) bucket_link;
	void *owner;
	struct event_source *source;
	uint32_t watched; /* events that the source waits for */
	bool is_ready, is_hashed;

	enum vsock_state state;
	int fd;
	uint32_t local_port;  /* the host's */
	uint32_t peer_port;   /* the guest's */
	uint64_t deadline_ns; /* 0: none */
	uint32_t pending;     /* packets to send, VSOCK_OP_BIT() each */

	uint32_t local_shutdown, peer_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_* announced by each side */
	bool read_ready;                        /* the socket may have something */
	bool read_ended;                        /* nothing more goes to the guest */
	bool write_ended;                       /* nobody reads what the guest sends */
	bool hung_up; /* the socket's other side is gone: watching it would not end */

	/* Host to guest; counters wrap. */
	uint32_t sent, peer_buf_alloc, peer_fwd_cnt;
	bool credit_asked;
	/* Guest to host. */
	uint32_t forwarded, forwarded_told;
	uint8_t *buffer; /* NULL while empty */
	size_t start, used;

	size_t line_length;
	char line[VSOCK_LINE_MAX];
};

/* Takes @fd over on success. 0 or -ENOMEM. */
int vsock_connection_create(int fd, enum vsock_state state, struct vsock_connection **out);
void vsock_connection_destroy(struct vsock_connection *connection);

/*
 * Reads the host program's "CONNECT PORT\n" and not a byte more. 1 with *port, 0 if the line is not
 * complete, -errno if there will be none.
 */
int vsock_connection_read_line(struct vsock_connection *connection, uint32_t *port);

/* A judged packet (VSOCK_TAKE) of this connection; @payload has packet->length bytes. */
enum vsock_outcome vsock_connection_receive(struct vsock_connection *connection,
					    const struct vsock_packet *packet,
					    const uint8_t *payload, uint64_t now_ns);

/* After VSOCK_CLOSE: true if the connection has to stay until the host program has read all. */
bool vsock_connection_linger(struct vsock_connection *connection, uint64_t now_ns);

/*
 * The next packet for the guest, with up to @room > 0 bytes of payload; ports and credit filled in,
 * CIDs not. False if there is none now.
 */
bool vsock_connection_pull(struct vsock_connection *connection, struct vsock_packet *packet,
			   uint8_t *payload, size_t room, uint64_t now_ns);

/* True if vsock_connection_pull() is worth a try. */
bool vsock_connection_has_work(const struct vsock_connection *connection);

/* The socket's events arrived (EPOLL*). Not in VSOCK_HANDSHAKE. */
void vsock_connection_on_events(struct vsock_connection *connection, uint32_t events,
				uint64_t now_ns);

/* The socket's events to wait for; *watch false: for nothing, not even a hang-up. */
uint32_t vsock_connection_interest(const struct vsock_connection *connection, bool *watch);

/* deadline_ns has passed. */
void vsock_connection_expire(struct vsock_connection *connection);

#endif
