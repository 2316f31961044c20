#include "devices/vsock_packet.h"

#include <assert.h>
#include <endian.h>
#include <linux/virtio_vsock.h>
#include <string.h>

static_assert(sizeof(struct virtio_vsock_hdr) == VSOCK_HEADER_SIZE, "header layout");

void vsock_packet_decode(const uint8_t bytes[VSOCK_HEADER_SIZE], struct vsock_packet *packet)
{
	struct virtio_vsock_hdr raw;

	memcpy(&raw, bytes, sizeof(raw));
	*packet = (struct vsock_packet){
		.src_cid = le64toh(raw.src_cid),
		.dst_cid = le64toh(raw.dst_cid),
		.src_port = le32toh(raw.src_port),
		.dst_port = le32toh(raw.dst_port),
		.length = le32toh(raw.len),
		.type = le16toh(raw.type),
		.op = le16toh(raw.op),
		.flags = le32toh(raw.flags),
		.buf_alloc = le32toh(raw.buf_alloc),
		.fwd_cnt = le32toh(raw.fwd_cnt),
	};
}

void vsock_packet_encode(const struct vsock_packet *packet, uint8_t bytes[VSOCK_HEADER_SIZE])
{
	const struct virtio_vsock_hdr raw = {
		.src_cid = htole64(packet->src_cid),
		.dst_cid = htole64(packet->dst_cid),
		.src_port = htole32(packet->src_port),
		.dst_port = htole32(packet->dst_port),
		.len = htole32(packet->length),
		.type = htole16(packet->type),
		.op = htole16(packet->op),
		.flags = htole32(packet->flags),
		.buf_alloc = htole32(packet->buf_alloc),
		.fwd_cnt = htole32(packet->fwd_cnt),
	};

	memcpy(bytes, &raw, sizeof(raw));
}

enum vsock_verdict vsock_packet_judge(const struct vsock_packet *packet, uint64_t payload_bytes,
				      uint64_t guest_cid)
{
	/* An answer would go to somebody who is not there. */
	if (packet->src_cid != guest_cid)
		return VSOCK_DROP;
	/* An RST is never answered by an RST, or two sides could go on for ever. */
	if (packet->op == VIRTIO_VSOCK_OP_RST)
		return packet->dst_cid == VSOCK_HOST_CID && packet->type == VIRTIO_VSOCK_TYPE_STREAM
			       ? VSOCK_TAKE
			       : VSOCK_DROP;
	if (packet->dst_cid != VSOCK_HOST_CID || packet->type != VIRTIO_VSOCK_TYPE_STREAM)
		return VSOCK_REFUSE;
	if (packet->op == VIRTIO_VSOCK_OP_INVALID || packet->op > VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		return VSOCK_REFUSE;
	return packet->length <= payload_bytes ? VSOCK_TAKE : VSOCK_REFUSE;
}

struct vsock_packet vsock_packet_refusal(const struct vsock_packet *packet)
{
	return (struct vsock_packet){
		.src_cid = packet->dst_cid,
		.dst_cid = packet->src_cid,
		.src_port = packet->dst_port,
		.dst_port = packet->src_port,
		.type = packet->type,
		.op = VIRTIO_VSOCK_OP_RST,
	};
}
