/*
 * All vsock connections of one guest, and the Unix sockets through which the host's programs reach
 * them; the convention is Firecracker's:
 *
 *   host to guest   connect to the socket PATH, say "CONNECT PORT\n"; "OK HOSTPORT\n" comes back once
 *                   a program of the guest has accepted, then bytes flow. Else the socket is closed.
 *   guest to host   a connection to CID 2, port N leads to the Unix socket PATH_N, which a program
 *                   of the host listens on. Else the guest's connection is reset.
 *
 * The muxer knows nothing of virtqueues: virtio_vsock.c gives it packets and takes packets from it.
 *
 * Threads: the lock given at creation guards everything. All functions are called on the I/O loop's
 * thread with it held, or, where it says so, elsewhere. Callbacks of the host come with it held.
 *
 * Limits: VSOCK_CONNECTIONS_MAX connections, those with half a CONNECT line and those that linger
 * included; 64 KiB of data each that the host's programs have not read. Beyond: RST, or a closed
 * socket. VSOCK_REFUSALS_MAX answers to what belongs to no connection wait for the guest; while
 * there are as many, no more packets are taken.
 */
#ifndef EBB_DEVICES_VSOCK_MUXER_H
#define EBB_DEVICES_VSOCK_MUXER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vsock_packet.h"
#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"

#define VSOCK_CONNECTIONS_MAX 1024u
#define VSOCK_REFUSALS_MAX    128u
#define VSOCK_PAYLOAD_MAX     65536u /* what anybody has credit for at once */

struct vsock_muxer;

struct vsock_muxer_config {
	const char *path; /* at most VSOCK_PATH_MAX bytes */
	uint32_t guest_cid;
	struct event_loop *loop;
	pthread_mutex_t *lock;
	void *opaque;
	/* There is something for the guest: vsock_muxer_pull() it, later. */
	void (*wake)(void *opaque);
	/* True if the guest's driver runs. */
	bool (*is_live)(void *opaque);
};

/* Room for "_4294967295" and the zero behind it in a Unix socket's address. */
#define VSOCK_PATH_MAX 96u

/* Listens at @path. Any thread, without the lock, as destroy: then the loop does not run. */
int vsock_muxer_create(const struct vsock_muxer_config *config, struct vsock_muxer **out,
		       struct error *err);
void vsock_muxer_destroy(struct vsock_muxer *muxer);

/* Removes the socket's file and nothing else. Any thread, without the lock. */
void vsock_muxer_remove_socket(const struct vsock_muxer *muxer);

/* False: the guest has to take what waits for it first. */
bool vsock_muxer_can_receive(const struct vsock_muxer *muxer);

/*
 * A packet from the guest, if vsock_muxer_can_receive(). @payload_bytes are behind its header;
 * @payload has those of them that a packet may use, at most VSOCK_PAYLOAD_MAX.
 */
void vsock_muxer_receive(struct vsock_muxer *muxer, const struct vsock_packet *packet,
			 uint64_t payload_bytes, const uint8_t *payload);

/* The next packet for the guest, with up to @room > 0 bytes of payload. False if there is none. */
bool vsock_muxer_pull(struct vsock_muxer *muxer, struct vsock_packet *packet, uint8_t *payload,
		      size_t room);
/* True if it is worth a try. */
bool vsock_muxer_has_packets(const struct vsock_muxer *muxer);

/* The guest forgets all its connections. Any thread, with the lock. They end on the I/O thread. */
void vsock_muxer_reset(struct vsock_muxer *muxer);

#endif
