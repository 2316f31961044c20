/*
 * The header in front of every vsock packet (virtio 1.2, section 5.10.6), and what is wrong with
 * one. Pure: bytes in, a verdict out; nothing here knows of connections, sockets or memory.
 */
#ifndef EBB_DEVICES_VSOCK_PACKET_H
#define EBB_DEVICES_VSOCK_PACKET_H

#include <stdint.h>

#define VSOCK_HEADER_SIZE   44u
#define VSOCK_HOST_CID      2u
#define VSOCK_GUEST_CID_MIN 3u
#define VSOCK_GUEST_CID_MAX 0xfffffffeu /* 0xffffffff is the CID that stands for any */

/* A header in the host's byte order. */
struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t length; /* of the payload */
	uint16_t type;   /* VIRTIO_VSOCK_TYPE_* */
	uint16_t op;     /* VIRTIO_VSOCK_OP_* */
	uint32_t flags;
	uint32_t buf_alloc; /* what the sender has room for… */
	uint32_t fwd_cnt;   /* …and how much of that has been consumed since the beginning */
};

enum vsock_verdict {
	VSOCK_TAKE,  /* from the guest, to the host, well formed */
	VSOCK_DROP,  /* deserves no answer */
	VSOCK_REFUSE /* to be answered with vsock_packet_refusal() */
};

void vsock_packet_decode(const uint8_t bytes[VSOCK_HEADER_SIZE], struct vsock_packet *packet);
void vsock_packet_encode(const struct vsock_packet *packet, uint8_t bytes[VSOCK_HEADER_SIZE]);

/* @packet came from the guest with @payload_bytes behind its header. */
enum vsock_verdict vsock_packet_judge(const struct vsock_packet *packet, uint64_t payload_bytes,
				      uint64_t guest_cid);

/* The RST that answers @packet. */
struct vsock_packet vsock_packet_refusal(const struct vsock_packet *packet);

#endif
