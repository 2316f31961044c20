/*
 * Virtio entropy device (virtio 1.2, section 5.4): fills the driver's buffers from getrandom(2).
 *
 * At most VIRTIO_RNG_CHAIN_MAX bytes are given per buffer, and a few buffers are filled per turn of
 * the event loop, so that a greedy guest starves no other device.
 */
#ifndef EBB_DEVICES_VIRTIO_RNG_H
#define EBB_DEVICES_VIRTIO_RNG_H

#include "devices/virtio_device.h"

#define VIRTIO_RNG_CHAIN_MAX 65536u

/* 0 or -errno. Free with virtio_device_destroy(), unless a transport has taken it. */
int virtio_rng_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct virtio_device **out);

#endif
