/*
 * What every virtio device has (virtio 1.2, chapters 2 and 3), without its transport.
 *
 * A device type (virtio_blk.c, …) embeds a struct virtio_device first and fills in the ops. The
 * transport (virtio_mmio.c) turns register accesses into calls of the functions below.
 *
 * Threads and locks: vCPU threads access registers, the I/O thread (the event loop given at
 * creation) serves queues and completions. Both do so under device->lock; every op but destroy() is
 * called with it held. The lock may be held while guest RAM is touched, for the fault monitor never
 * takes it.
 *
 * Kicks: virtqueue_pop() asks for the next kick by itself when it finds the queue empty. A device
 * that stops before that has to kick itself (virtio_device_kick_queue()). Queues are served once
 * after DRIVER_OK too.
 */
#ifndef EBB_DEVICES_VIRTIO_DEVICE_H
#define EBB_DEVICES_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtqueue.h"
#include "memory/guest_memory.h"
#include "vmm/base/event_loop.h"
#include "vmm/base/log.h"

#define VIRTIO_QUEUES_MAX 8u

/* Feature bits that the core offers for every device. */
#define VIRTIO_FEATURE(bit) (1ull << (bit))

struct virtio_device;

struct virtio_device_ops {
	const char *name;     /* "virtio-blk": for messages */
	uint32_t device_id;   /* virtio 1.2, chapter 5 */
	unsigned queue_count; /* VIRTIO_QUEUES_MAX at most */
	uint16_t queue_size;

	/* Configuration space, bytes [offset, offset + size); reads outside give 0. Optional. */
	void (*read_config)(struct virtio_device *device, uint32_t offset, void *data,
			    unsigned size);
	void (*write_config)(struct virtio_device *device, uint32_t offset, const void *data,
			     unsigned size);
	/* Queue @index was kicked: serve what waits in it. On the I/O thread; live and ready. */
	void (*serve_queue)(struct virtio_device *device, unsigned index);
	/*
	 * The driver resets the device: drop what is pending, and return only when no transfer to
	 * or from guest memory is under way (release device->lock to wait for them). The queues
	 * are down already: a late virtqueue_push() is refused, the device is not live. 0, or
	 * -ETIMEDOUT if transfers still run at @deadline (devices/deadline.h). Optional.
	 */
	int (*reset)(struct virtio_device *device, uint64_t deadline);
	/* Frees the device: the I/O loop no longer runs. */
	void (*destroy)(struct virtio_device *device);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	const struct guest_memory *memory;
	struct event_loop *io_loop;
	pthread_mutex_t lock;
	uint64_t offered_features;
	uint64_t driver_features; /* what the driver acknowledged */
	uint8_t status;
	uint32_t config_generation;
	atomic_uint interrupt_status;
	int irq_fd; /* eventfd wired to the guest's GSI; owned by the transport */
	int kick_fds[VIRTIO_QUEUES_MAX]; /* eventfds that lead to serve_queue(); the transport's */
	struct virtqueue queues[VIRTIO_QUEUES_MAX];
	unsigned in_flight; /* requests that the host works on: their buffers are in use */
	struct log_ratelimit guest_errors;
};

/*
 * Initialises the common part: features = @features | the core's own (VERSION_1, INDIRECT_DESC,
 * EVENT_IDX). For the constructors of device types.
 */
int virtio_device_init(struct virtio_device *device, const struct virtio_device_ops *ops,
		       const struct guest_memory *memory, struct event_loop *io_loop,
		       uint64_t features);
void virtio_device_fini(struct virtio_device *device);

/* Calls ops->destroy. NULL is legal. */
void virtio_device_destroy(struct virtio_device *device);

bool virtio_device_has_feature(const struct virtio_device *device, unsigned bit);

/* True once the driver set DRIVER_OK, until reset or breakage. */
bool virtio_device_is_live(const struct virtio_device *device);

/*
 * Has serve_queue(@index) called again, on the I/O thread, if the device is live by then: for a
 * device that stops before its queue is empty. Any thread, with or without the lock.
 */
void virtio_device_kick_queue(struct virtio_device *device, unsigned index);

/*
 * For ops->read_config: the bytes of @config (@config_size of them) at @offset; zeros behind its
 * end.
 */
void virtio_device_copy_config(const void *config, size_t config_size, uint32_t offset, void *data,
			       unsigned size);

/* Interrupts the driver for @queue if it asked for that. After one or more virtqueue_push(). */
void virtio_device_signal_queue(struct virtio_device *device, struct virtqueue *queue);

/* The configuration space has changed: new generation, configuration interrupt. */
void virtio_device_signal_config(struct virtio_device *device);

/* The driver broke the protocol: log (rate-limited) why, DEVICE_NEEDS_RESET, configuration
 * interrupt. */
void virtio_device_needs_reset(struct virtio_device *device, const char *why);

/*
 * Resets to the state after creation (status 0, queues forgotten). Lock held by the caller. 0, or
 * -ETIMEDOUT: all of that, but transfers still run, and the guest's memory must not change hands.
 */
int virtio_device_reset(struct virtio_device *device, uint64_t deadline);

/*
 * The driver writes the status field (section 2.1): sets what may be set. FEATURES_OK is refused
 * without VERSION_1 or with a feature that was not offered, DRIVER_OK without FEATURES_OK; no bit
 * is cleared. For transports, with the lock held; 0 (reset) is the transport's own care.
 */
void virtio_device_set_status(struct virtio_device *device, uint8_t status);

#endif
