/*
 * The guest's side of virtio, for tests of devices: builds rings in guest RAM and drives a device
 * through its MMIO transport, with the I/O event loop on a thread of its own as in a real machine.
 *
 *	struct virtio_driver driver;
 *
 *	virtio_driver_setup(&driver, 4 * MIB);
 *	virtio_foo_create(driver.memory, driver.loop, &device);
 *	virtio_driver_attach(&driver, device);
 *	virtio_driver_start(&driver, features);
 *	head = ring_add(&driver.rings[0], (struct ring_buffer[]){{gpa, length, true}}, 1);
 *	virtio_driver_kick(&driver, 0);
 *	assert_true(virtio_driver_wait_used(&driver, 0, &head, &written));
 *	virtio_driver_teardown(&driver);
 *
 * What cannot fail in a right device is asserted inside. The rings can be used without a device
 *too.
 */
#ifndef EBB_TESTS_VIRTIO_DRIVER_H
#define EBB_TESTS_VIRTIO_DRIVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio_mmio.h"
#include "devices/virtqueue.h"
#include "memory/guest_memory.h"
#include "vmm/base/event_loop.h"

/* One queue in guest RAM. Descriptors are handed out in a circle. */
struct ring {
	struct guest_memory *memory;
	uint16_t size;
	gpa_t descriptors;
	gpa_t available;
	gpa_t used;
	uint16_t next_descriptor;
	uint16_t next_available; /* what the available index is, or will be */
	uint16_t next_used;      /* the next used element to look at */
};

struct ring_buffer {
	gpa_t gpa;
	uint32_t length;
	bool writable;
};

/* Room that ring_init() takes for any size up to VIRTQUEUE_SIZE_MAX. */
#define RING_BYTES 0x4000u

/* RAM [0, size), one region. */
struct guest_memory *ring_memory(uint64_t size);

/* Lays out an empty ring at @base (page-aligned). */
void ring_init(struct ring *ring, struct guest_memory *memory, gpa_t base, uint16_t size);

/* Makes @queue the device's side of @ring and enables it: what virtqueue_enable() said. */
int ring_connect(const struct ring *ring, struct virtqueue *queue, bool event_index, bool indirect);

/* Writes one raw descriptor; @flags are VRING_DESC_F_*. */
void ring_set_descriptor(const struct ring *ring, uint16_t index, uint64_t gpa, uint32_t length,
			 uint16_t flags, uint16_t next);
/* The same in an indirect table at @table. */
void ring_set_indirect(const struct ring *ring, gpa_t table, uint16_t index, uint64_t gpa,
		       uint32_t length, uint16_t flags, uint16_t next);

/* Makes a chain of @count descriptors, or one that refers to an indirect table that it writes at
 * @table; returns its head. Not yet available. */
uint16_t ring_chain(struct ring *ring, const struct ring_buffer *buffers, size_t count);
uint16_t ring_chain_indirect(struct ring *ring, gpa_t table, const struct ring_buffer *buffers,
			     size_t count);

/* Adds @head to the available ring and publishes the index. */
void ring_publish(struct ring *ring, uint16_t head);

/* ring_chain() and ring_publish(). */
uint16_t ring_add(struct ring *ring, const struct ring_buffer *buffers, size_t count);

/* Sets the raw available index. */
void ring_set_available_index(struct ring *ring, uint16_t index);

/* True, with the next element given back by the device; false if there is none. */
bool ring_take_used(struct ring *ring, uint16_t *head, uint32_t *written);

uint16_t ring_used_index(const struct ring *ring);
uint16_t ring_used_flags(const struct ring *ring);
uint16_t ring_available_event(const struct ring *ring); /* where the device wants a kick */
void ring_set_used_event(const struct ring *ring, uint16_t event); /* … the driver an interrupt */
void ring_set_available_flags(const struct ring *ring, uint16_t flags);

/* What a driver needs between publishing an index and looking at an event index, and vice versa. */
void ring_full_barrier(void);

/* Guest RAM, asserting success. */
void ring_write(const struct ring *ring, gpa_t gpa, const void *data, size_t length);
void ring_read(const struct ring *ring, gpa_t gpa, void *data, size_t length);

/* Rings live below this address; from here on RAM is the test's. */
#define VIRTIO_DRIVER_DATA       0x100000u
#define VIRTIO_DRIVER_QUEUE_SIZE 16u

struct virtio_driver {
	struct guest_memory *memory;
	struct event_loop *loop;
	pthread_t thread;
	bool loop_runs;
	struct virtio_mmio *mmio;
	struct ring rings[VIRTIO_QUEUES_MAX];
};

/* Creates RAM (@memory_size > VIRTIO_DRIVER_DATA) and the event loop. */
void virtio_driver_setup(struct virtio_driver *driver, uint64_t memory_size);

/* Puts @device (taken over) behind a transport and starts the loop's thread. */
void virtio_driver_attach(struct virtio_driver *driver, struct virtio_device *device);

/* Stops the loop, destroys all. */
void virtio_driver_teardown(struct virtio_driver *driver);

/* Stops the loop's thread, if a test wants to see the device at rest; and starts it again. */
void virtio_driver_stop_loop(struct virtio_driver *driver);
void virtio_driver_start_loop(struct virtio_driver *driver);

/* Transport registers (4 bytes), and configuration space by accesses of @size 1, 2, 4 or 8. */
uint32_t virtio_driver_read(struct virtio_driver *driver, uint32_t offset);
void virtio_driver_write(struct virtio_driver *driver, uint32_t offset, uint32_t value);
uint64_t virtio_driver_read_config(struct virtio_driver *driver, uint32_t offset, unsigned size);
void virtio_driver_write_config(struct virtio_driver *driver, uint32_t offset, uint64_t value,
				unsigned size);

uint64_t virtio_driver_offered_features(struct virtio_driver *driver);

/* Reset, ACKNOWLEDGE, DRIVER, @features, FEATURES_OK: true if the device accepted. */
bool virtio_driver_negotiate(struct virtio_driver *driver, uint64_t features);

/* Sets up rings[@index] anew with @size entries and makes it ready. */
void virtio_driver_setup_queue(struct virtio_driver *driver, unsigned index, uint16_t size);

/*
 * All of it: negotiates VERSION_1 | @features, sets up every queue with VIRTIO_DRIVER_QUEUE_SIZE
 * entries or fewer, sets DRIVER_OK.
 */
void virtio_driver_start(struct virtio_driver *driver, uint64_t features);

/* Kicks unconditionally. */
void virtio_driver_kick(struct virtio_driver *driver, unsigned index);

/* Waits up to 5 s for the next element in the used ring; false if none came. */
bool virtio_driver_wait_used(struct virtio_driver *driver, unsigned index, uint16_t *head,
			     uint32_t *written);

/* Waits up to 5 s for an interrupt, returns and acknowledges InterruptStatus; 0 if none came. */
uint32_t virtio_driver_wait_interrupt(struct virtio_driver *driver);

/* True if an interrupt was raised since the last look; does not wait. */
bool virtio_driver_interrupted(struct virtio_driver *driver);

/* Waits up to 5 s until all @bits are set in the device's status; false if they are not. */
bool virtio_driver_wait_status(struct virtio_driver *driver, uint32_t bits);

#endif
