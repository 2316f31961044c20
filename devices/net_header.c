#include "devices/net_header.h"

#include <endian.h>
#include <stddef.h>

#include "vmm/base/checked.h"

#define FEATURE(bit) (1ull << (bit))

/* No protocol's segments are smaller; a frame of 64 KiB shall not become 64 Ki frames. */
#define SEGMENT_MIN 8u

#define CHECKSUM_BYTES 2u

static bool has(uint64_t features, unsigned bit)
{
	return features & FEATURE(bit);
}

uint64_t net_header_settle(uint64_t features)
{
	const uint64_t need_checksum = FEATURE(VIRTIO_NET_F_HOST_TSO4) |
				       FEATURE(VIRTIO_NET_F_HOST_TSO6) |
				       FEATURE(VIRTIO_NET_F_HOST_UFO);
	const uint64_t need_guest_checksum = FEATURE(VIRTIO_NET_F_GUEST_TSO4) |
					     FEATURE(VIRTIO_NET_F_GUEST_TSO6) |
					     FEATURE(VIRTIO_NET_F_GUEST_UFO);

	if (!has(features, VIRTIO_NET_F_CSUM))
		features &= ~need_checksum;
	if (!has(features, VIRTIO_NET_F_GUEST_CSUM))
		features &= ~need_guest_checksum;
	if (!has(features, VIRTIO_NET_F_HOST_TSO4) && !has(features, VIRTIO_NET_F_HOST_TSO6))
		features &= ~FEATURE(VIRTIO_NET_F_HOST_ECN);
	if (!has(features, VIRTIO_NET_F_GUEST_TSO4) && !has(features, VIRTIO_NET_F_GUEST_TSO6))
		features &= ~FEATURE(VIRTIO_NET_F_GUEST_ECN);
	return features;
}

/* Which feature permits each kind of segmentation, as the driver sends and receives it. */
static const struct kind {
	uint8_t type;
	uint8_t sent, received;
} kinds[] = {
	{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4},
	{VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_GUEST_TSO6},
	{VIRTIO_NET_HDR_GSO_UDP, VIRTIO_NET_F_HOST_UFO, VIRTIO_NET_F_GUEST_UFO},
};

static const struct kind *find_kind(uint8_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (kinds[i].type == type)
			return &kinds[i];
	}
	return NULL;
}

static bool segmentation_is_allowed(const struct virtio_net_hdr_v1 *header, uint64_t features,
				    bool sent)
{
	bool ecn = header->gso_type & VIRTIO_NET_HDR_GSO_ECN;
	const struct kind *kind = find_kind(header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN);

	if (!kind || !has(features, sent ? kind->sent : kind->received))
		return false;
	if (!ecn)
		return true;
	return kind->type != VIRTIO_NET_HDR_GSO_UDP &&
	       has(features, sent ? VIRTIO_NET_F_HOST_ECN : VIRTIO_NET_F_GUEST_ECN);
}

/* The checksum's two bytes lie in the frame. */
static bool checksum_is_inside(const struct virtio_net_hdr_v1 *header, uint64_t length)
{
	uint64_t start = le16toh(header->csum_start);

	return start < length &&
	       range_within(start + le16toh(header->csum_offset), CHECKSUM_BYTES, length);
}

static bool check(struct virtio_net_hdr_v1 *header, uint64_t length, uint64_t features, bool sent)
{
	bool partial = header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;

	header->num_buffers = 0;
	if (partial) {
		if (!has(features, sent ? VIRTIO_NET_F_CSUM : VIRTIO_NET_F_GUEST_CSUM) ||
		    !checksum_is_inside(header, length))
			return false;
	} else {
		header->csum_start = 0;
		header->csum_offset = 0;
	}
	if (header->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
		header->gso_size = 0;
		header->hdr_len = 0;
		return true;
	}
	return partial && segmentation_is_allowed(header, features, sent) &&
	       le16toh(header->gso_size) >= SEGMENT_MIN && le16toh(header->hdr_len) <= length;
}

bool net_header_check_sent(struct virtio_net_hdr_v1 *header, uint64_t length, uint64_t features)
{
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
	return check(header, length, features, true);
}

bool net_header_check_received(struct virtio_net_hdr_v1 *header, uint64_t length, uint64_t features)
{
	header->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
	if (!has(features, VIRTIO_NET_F_GUEST_CSUM))
		header->flags &= (uint8_t)~VIRTIO_NET_HDR_F_DATA_VALID;
	return check(header, length, features, false);
}
