/*
 * virtio-net (virtio 1.2, section 5.1): one pair of queues over a network backend
 * (devices/net_backend.h).
 *
 * Offloads are the backend's. Received frames are copied into the driver's buffers, over several of
 * them where VIRTIO_NET_F_MRG_RXBUF is negotiated; a frame waits for buffers, one that can never
 * fit is dropped. Sent frames go to the backend from guest memory, without a copy of ours; the
 * header is copied and judged first. No transfer outlives the call that makes it, so that the I/O
 * gate (memory/io_gate.h) is not needed: read and write copy, they pin nothing.
 *
 * When the backend goes away, the link goes down, and what the driver sends is dropped.
 */
#ifndef EBB_DEVICES_VIRTIO_NET_H
#define EBB_DEVICES_VIRTIO_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/net_backend.h"
#include "devices/virtio_device.h"

#define VIRTIO_NET_MAC_BYTES 6

/* Since creation. Bytes are without struct virtio_net_hdr_v1. */
struct virtio_net_counters {
	uint64_t rx_frames, rx_bytes, rx_dropped;
	uint64_t tx_frames, tx_bytes, tx_dropped;
	bool link_up;
};

/* Takes @backend over if it succeeds. 0 or -errno. */
int virtio_net_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct net_backend *backend, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
		      struct virtio_device **out);

/* @device is a virtio-net. Any thread; never waits. */
void virtio_net_get_counters(struct virtio_device *device, struct virtio_net_counters *counters);

#endif
