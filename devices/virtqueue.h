/*
 * The split virtqueue, device side (virtio 1.2, section 2.7).
 *
 * A queue is three areas in guest RAM, written by a driver that is not trusted:
 *
 *   descriptor table   where buffers are: address, length, NEXT / WRITE / INDIRECT flags
 *   available ring     driver → device: heads of descriptor chains
 *   used ring          device → driver: heads given back, with the bytes written
 *
 * Contract of virtqueue_pop(): every index and descriptor is copied out of guest RAM once, judged,
 * and only the copy is used; chains are bounded by the queue size, indirect tables by
 * VIRTQ_SEGMENTS_MAX; readable segments come before writable ones; every segment lies in RAM. A
 * chain that breaks a rule makes the queue *broken*: pop and push refuse from then on, the device
 * reports VIRTIO_STATUS_NEEDS_RESET, and a reset mends it. Guest errors never reach assert().
 *
 * No lock of its own: the owner (struct virtio_device) serialises. Nothing is owned but the struct.
 */
#ifndef EBB_DEVICES_VIRTQUEUE_H
#define EBB_DEVICES_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "memory/guest_memory.h"

#define VIRTQUEUE_SIZE_MAX 256u
#define VIRTQ_SEGMENTS_MAX 256u

struct virtqueue {
	const struct guest_memory *memory;
	uint16_t size_max; /* offered by the device */
	uint16_t size;     /* chosen by the driver, a power of two up to size_max */
	bool ready;
	bool broken;
	bool event_index;    /* VIRTIO_F_EVENT_IDX negotiated */
	bool indirect;       /* VIRTIO_F_INDIRECT_DESC negotiated */
	uint32_t generation; /* how often it was enabled so far; never reset */
	gpa_t descriptors;
	gpa_t available;
	gpa_t used;
	uint16_t next_available;
	uint16_t next_used;
	uint16_t last_signalled_used; /* used index when the driver was last interrupted */
	bool last_signalled_valid;
};

struct virtq_segment {
	gpa_t gpa;
	uint32_t length;
};

/* A descriptor chain, copied and checked. The first @readable segments are the driver's data. */
struct virtq_chain {
	uint32_t generation; /* of the queue that it came from */
	uint16_t head;
	uint16_t readable;
	uint16_t writable;
	uint64_t readable_bytes;
	uint64_t writable_bytes;
	struct virtq_segment segments[VIRTQ_SEGMENTS_MAX];
};

/* Forgets all but the size limit, the memory and the generation. */
void virtqueue_reset(struct virtqueue *queue);

/* Checks what the driver configured: 0 and ready, or -EINVAL (size, alignment, not RAM). */
int virtqueue_enable(struct virtqueue *queue);

/*
 * 1: *chain is the next one. 0: none waits (or the queue is not ready), and the driver will kick
 * for the next one. -EINVAL: the driver broke the rules; queue is broken.
 */
int virtqueue_pop(struct virtqueue *queue, struct virtq_chain *chain);

/*
 * Takes the last @count pops back, none of which was pushed: their chains come again, and are judged
 * again. The driver kicks for what it adds if the queue was found empty before.
 */
void virtqueue_unpop(struct virtqueue *queue, uint16_t count);

/*
 * False if the driver has stopped the queue since a chain of @generation was taken from it, even if
 * it enabled it again: then the chain is forgotten, and must not be given back.
 */
bool virtqueue_is_current(const struct virtqueue *queue, uint32_t generation);

/* A chain to give back, with @written bytes of its writable part filled. */
struct virtq_used {
	uint16_t head;
	uint32_t written;
};

/* Gives a chain back. 0 or -EINVAL (broken). */
int virtqueue_push(struct virtqueue *queue, uint16_t head, uint32_t written);

/* Gives @count chains back: the driver sees none of them, then all. 0 or -EINVAL (broken). */
int virtqueue_push_many(struct virtqueue *queue, const struct virtq_used *used, uint16_t count);

/* True if the driver wants an interrupt for what was pushed since the last call. */
bool virtqueue_needs_interrupt(struct virtqueue *queue);

/* Copies from the chain's readable bytes at @offset. 0 or -EINVAL if they are too few. */
int virtq_chain_read(const struct guest_memory *memory, const struct virtq_chain *chain,
		     uint64_t offset, void *buffer, size_t length);

/* Copies to the chain's writable bytes at @offset. 0 or -EINVAL if they are too few. */
int virtq_chain_write(const struct guest_memory *memory, const struct virtq_chain *chain,
		      uint64_t offset, const void *buffer, size_t length);

/*
 * Host ranges for [offset, offset + length) of the readable (@writable false) or writable bytes.
 * 0, -EINVAL if they are too few, -ENOBUFS if more than @max ranges are needed.
 */
int virtq_chain_iovec(const struct guest_memory *memory, const struct virtq_chain *chain,
		      bool writable, uint64_t offset, uint64_t length, struct iovec *iov,
		      size_t max, size_t *count);

#endif
