/*
 * Ethernet frames on a byte stream, as passt(1) and QEMU's `-netdev stream` speak it: a 32-bit
 * big-endian length in front of each.
 *
 * Pure functions over buffers, no descriptor: what reads a socket asks where the next bytes belong,
 * and says how many came. No more is asked for than the present frame and the next one's length, so
 * that every frame that is ready keeps the socket readable.
 *
 * The caller guards the struct. Zero-initialise it.
 */
#ifndef EBB_DEVICES_NET_FRAMING_H
#define EBB_DEVICES_NET_FRAMING_H

#include <linux/if_ether.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "devices/net_backend.h"

#define NET_FRAMING_PREFIX sizeof(uint32_t)
#define NET_FRAMING_MIN    ((size_t)ETH_HLEN)
#define NET_FRAMING_MAX    (NET_FRAME_MAX - sizeof(struct virtio_net_hdr_v1))

/* How far the other side's stream has been understood. */
struct net_framing {
	uint8_t prefix[NET_FRAMING_PREFIX];
	size_t prefix_have;
	size_t length;                 /* of the present frame; valid once its prefix is whole */
	size_t have;                   /* bytes of it that have come */
	uint8_t rest[NET_FRAMING_MAX]; /* those bytes, between two calls of net_framing_took() */
};

/*
 * Where the next bytes of the stream go; @frame has NET_FRAMING_MAX bytes and is the same until the
 * next net_framing_took(). Returns how many of @iov are filled in, 1 or 2.
 */
int net_framing_space(struct net_framing *framing, uint8_t *frame, struct iovec iov[2]);

/*
 * @bytes came, as far as net_framing_space() gave space for. The size of the frame that is whole in
 * @frame now; 0: more is needed; -EPROTO: the other side announces a frame of an impossible size, and
 * where the next one begins is not known.
 */
ssize_t net_framing_took(struct net_framing *framing, const uint8_t *frame, size_t bytes);

#endif
