/*
 * A polling driver of virtio-mmio, version 2 (virtio 1.2, sections 2.7 and 4.2).
 *
 * Split rings without interrupts. virtio_submit() and what follows it keep one request at a time on
 * a queue, whose descriptors start at 0; with virtio_offer() and virtio_take() a queue has several.
 */
#ifndef EBB_BARE_VIRTIO_H
#define EBB_BARE_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#define VIRTIO_ID_NET     1
#define VIRTIO_ID_BLOCK   2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_BALLOON 5
#define VIRTIO_ID_VSOCK   19

#define VIRTIO_FEATURE_EVENT_INDEX 29

#define VIRTIO_CONFIG 0x100 /* the configuration space's offset */

#define VIRTIO_STATUS_NEEDS_RESET 0x40

#define VIRTQ_SIZE        64
#define VIRTIO_QUEUES_MAX 4
#define VIRTQ_DESC_NEXT   1
#define VIRTQ_DESC_WRITE  2

struct virtq_desc {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct virtq_used_element {
	uint32_t id, length;
};

/* One page for each queue: 64 descriptors are 1 KiB, the rings little more. */
struct virtq {
	struct virtq_desc desc[VIRTQ_SIZE];
	struct {
		uint16_t flags, index, ring[VIRTQ_SIZE], used_event;
	} avail;
	struct {
		uint16_t flags, index;
		struct virtq_used_element ring[VIRTQ_SIZE];
		uint16_t avail_event;
	} used __attribute__((aligned(8)));
} __attribute__((aligned(4096)));

struct virtio {
	uint64_t base;
	uint64_t features; /* negotiated */
	struct virtq *queues[VIRTIO_QUEUES_MAX];
	uint16_t used_seen[VIRTIO_QUEUES_MAX];
	uint16_t notified[VIRTIO_QUEUES_MAX]; /* the available index at the last notification */
};

/* The device in the transport at @base: 0 if the slot is empty or no virtio-mmio. */
uint32_t virtio_device_id(uint64_t base);

/*
 * Resets the device and brings it up to DRIVER_OK with the features of @wanted that it offers and
 * with @queue_count queues (which may depend on the features: @queues tells). NULL, or why not.
 */
const char *virtio_start(struct virtio *device, uint64_t base, uint64_t wanted,
			 unsigned (*queue_count)(uint64_t features));

/* What the device offers. */
uint64_t virtio_offered(uint64_t base);

bool virtio_has(const struct virtio *device, unsigned feature);

uint32_t virtio_status(const struct virtio *device);

/*
 * Makes @count descriptors, filled in by the caller from queues[queue]->desc[0] on but for their
 * links, available, and kicks.
 */
void virtio_submit(struct virtio *device, unsigned queue, unsigned count);

/* True once the submitted request was used; *length (may be NULL) is what the device wrote. */
bool virtio_is_done(struct virtio *device, unsigned queue, uint32_t *length);

/*
 * Makes the chain that begins at descriptor @head available; virtio_notify() tells the device, if it
 * wants to know (event index).
 */
void virtio_offer(struct virtio *device, unsigned queue, uint16_t head);
void virtio_notify(struct virtio *device, unsigned queue);

/* True, with the next used chain, of which the device has written *length bytes. */
bool virtio_take(struct virtio *device, unsigned queue, uint16_t *head, uint32_t *length);

/* Submits and waits. NULL, or why it failed. */
const char *virtio_request(struct virtio *device, unsigned queue, unsigned count, uint32_t *length);

#endif
