#include "virtio_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "vmm/base/clock.h"
#include "vmm/base/error.h"
#include "vmm/base/thread.h"

#define PATIENCE_NS (5 * NS_PER_SEC)
#define RINGS_BASE  0x10000u

struct guest_memory *ring_memory(uint64_t size)
{
	const struct guest_memory_region region = {.base = 0, .size = size};
	struct guest_memory *memory = NULL;
	struct error err;

	if (guest_memory_create(&region, 1, &memory, &err))
		fail_msg("guest memory: %s", err.text);
	return memory;
}

void ring_write(const struct ring *ring, gpa_t gpa, const void *data, size_t length)
{
	assert_int_equal(guest_memory_write(ring->memory, gpa, data, length), 0);
}

void ring_read(const struct ring *ring, gpa_t gpa, void *data, size_t length)
{
	assert_int_equal(guest_memory_read(ring->memory, gpa, data, length), 0);
}

static uint16_t load16(const struct ring *ring, gpa_t gpa)
{
	uint64_t value = 0;

	assert_int_equal(guest_memory_load(ring->memory, gpa, 2, &value), 0);
	return (uint16_t)value;
}

static void store16(const struct ring *ring, gpa_t gpa, uint16_t value)
{
	assert_int_equal(guest_memory_store(ring->memory, gpa, 2, value), 0);
}

void ring_init(struct ring *ring, struct guest_memory *memory, gpa_t base, uint16_t size)
{
	*ring = (struct ring){
		.memory = memory,
		.size = size,
		.descriptors = base,
		.available = base + 0x2000,
		.used = base + 0x3000,
	};
	assert_int_equal(guest_memory_fill(memory, base, 0, RING_BYTES), 0);
}

int ring_connect(const struct ring *ring, struct virtqueue *queue, bool event_index, bool indirect)
{
	*queue = (struct virtqueue){
		.memory = ring->memory,
		.size_max = VIRTQUEUE_SIZE_MAX,
		.size = ring->size,
		.event_index = event_index,
		.indirect = indirect,
		.descriptors = ring->descriptors,
		.available = ring->available,
		.used = ring->used,
	};
	return virtqueue_enable(queue);
}

void ring_set_indirect(const struct ring *ring, gpa_t table, uint16_t index, uint64_t gpa,
		       uint32_t length, uint16_t flags, uint16_t next)
{
	struct vring_desc descriptor = {
		.addr = gpa,
		.len = length,
		.flags = flags,
		.next = next,
	};

	ring_write(ring, table + index * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

void ring_set_descriptor(const struct ring *ring, uint16_t index, uint64_t gpa, uint32_t length,
			 uint16_t flags, uint16_t next)
{
	ring_set_indirect(ring, ring->descriptors, index, gpa, length, flags, next);
}

uint16_t ring_chain(struct ring *ring, const struct ring_buffer *buffers, size_t count)
{
	uint16_t head = ring->next_descriptor;

	assert_true(count > 0 && count <= ring->size);
	for (size_t i = 0; i < count; i++) {
		uint16_t index = ring->next_descriptor;
		uint16_t next = (uint16_t)((index + 1) % ring->size);
		uint16_t flags = buffers[i].writable ? VRING_DESC_F_WRITE : 0;

		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		ring_set_descriptor(ring, index, buffers[i].gpa, buffers[i].length, flags, next);
		ring->next_descriptor = next;
	}
	return head;
}

uint16_t ring_chain_indirect(struct ring *ring, gpa_t table, const struct ring_buffer *buffers,
			     size_t count)
{
	uint16_t head = ring->next_descriptor;

	for (size_t i = 0; i < count; i++) {
		uint16_t flags = buffers[i].writable ? VRING_DESC_F_WRITE : 0;

		if (i + 1 < count)
			flags |= VRING_DESC_F_NEXT;
		ring_set_indirect(ring, table, (uint16_t)i, buffers[i].gpa, buffers[i].length,
				  flags, (uint16_t)(i + 1));
	}
	ring_set_descriptor(ring, head, table, (uint32_t)(count * sizeof(struct vring_desc)),
			    VRING_DESC_F_INDIRECT, 0);
	ring->next_descriptor = (uint16_t)((head + 1) % ring->size);
	return head;
}

void ring_set_available_index(struct ring *ring, uint16_t index)
{
	ring->next_available = index;
	store16(ring, ring->available + 2, index);
}

void ring_publish(struct ring *ring, uint16_t head)
{
	store16(ring, ring->available + 4 + 2u * (ring->next_available % ring->size), head);
	ring_set_available_index(ring, (uint16_t)(ring->next_available + 1));
}

uint16_t ring_add(struct ring *ring, const struct ring_buffer *buffers, size_t count)
{
	uint16_t head = ring_chain(ring, buffers, count);

	ring_publish(ring, head);
	return head;
}

uint16_t ring_used_index(const struct ring *ring)
{
	return load16(ring, ring->used + 2);
}

uint16_t ring_used_flags(const struct ring *ring)
{
	return load16(ring, ring->used);
}

bool ring_take_used(struct ring *ring, uint16_t *head, uint32_t *written)
{
	struct vring_used_elem element;

	if (ring_used_index(ring) == ring->next_used)
		return false;
	ring_read(ring, ring->used + 4 + 8u * (ring->next_used % ring->size), &element,
		  sizeof(element));
	ring->next_used++;
	*head = (uint16_t)element.id;
	*written = element.len;
	return true;
}

uint16_t ring_available_event(const struct ring *ring)
{
	return load16(ring, ring->used + 4 + 8u * ring->size);
}

void ring_set_used_event(const struct ring *ring, uint16_t event)
{
	store16(ring, ring->available + 4 + 2u * ring->size, event);
}

void ring_set_available_flags(const struct ring *ring, uint16_t flags)
{
	store16(ring, ring->available, flags);
}

/* Gcc warns that its thread sanitizer knows no fences. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif
void ring_full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void virtio_driver_setup(struct virtio_driver *driver, uint64_t memory_size)
{
	assert_true(memory_size > VIRTIO_DRIVER_DATA);
	memset(driver, 0, sizeof(*driver));
	driver->memory = ring_memory(memory_size);
	assert_int_equal(event_loop_create(&driver->loop), 0);
}

static void *run_loop(void *opaque)
{
	event_loop_run(opaque);
	return NULL;
}

void virtio_driver_start_loop(struct virtio_driver *driver)
{
	assert_false(driver->loop_runs);
	assert_int_equal(thread_start(&driver->thread, "io", run_loop, driver->loop), 0);
	driver->loop_runs = true;
}

void virtio_driver_stop_loop(struct virtio_driver *driver)
{
	if (!driver->loop_runs)
		return;
	event_loop_stop(driver->loop);
	pthread_join(driver->thread, NULL);
	driver->loop_runs = false;
}

void virtio_driver_attach(struct virtio_driver *driver, struct virtio_device *device)
{
	assert_int_equal(virtio_mmio_create(device, driver->loop, &driver->mmio), 0);
	virtio_driver_start_loop(driver);
}

void virtio_driver_teardown(struct virtio_driver *driver)
{
	virtio_driver_stop_loop(driver);
	virtio_mmio_destroy(driver->mmio);
	event_loop_destroy(driver->loop);
	guest_memory_destroy(driver->memory);
}

uint32_t virtio_driver_read(struct virtio_driver *driver, uint32_t offset)
{
	return (uint32_t)virtio_mmio_bus_ops.read(driver->mmio, offset, 4);
}

void virtio_driver_write(struct virtio_driver *driver, uint32_t offset, uint32_t value)
{
	virtio_mmio_bus_ops.write(driver->mmio, offset, value, 4);
}

uint64_t virtio_driver_read_config(struct virtio_driver *driver, uint32_t offset, unsigned size)
{
	return virtio_mmio_bus_ops.read(driver->mmio, VIRTIO_MMIO_CONFIG + offset, size);
}

void virtio_driver_write_config(struct virtio_driver *driver, uint32_t offset, uint64_t value,
				unsigned size)
{
	virtio_mmio_bus_ops.write(driver->mmio, VIRTIO_MMIO_CONFIG + offset, value, size);
}

uint64_t virtio_driver_offered_features(struct virtio_driver *driver)
{
	uint64_t features;

	virtio_driver_write(driver, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)virtio_driver_read(driver, VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	virtio_driver_write(driver, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | virtio_driver_read(driver, VIRTIO_MMIO_DEVICE_FEATURES);
}

static void add_status(struct virtio_driver *driver, uint32_t bits)
{
	virtio_driver_write(driver, VIRTIO_MMIO_STATUS,
			    virtio_driver_read(driver, VIRTIO_MMIO_STATUS) | bits);
}

bool virtio_driver_negotiate(struct virtio_driver *driver, uint64_t features)
{
	virtio_driver_write(driver, VIRTIO_MMIO_STATUS, 0);
	add_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(driver, VIRTIO_CONFIG_S_DRIVER);
	for (uint32_t word = 0; word < 2; word++) {
		virtio_driver_write(driver, VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
		virtio_driver_write(driver, VIRTIO_MMIO_DRIVER_FEATURES,
				    (uint32_t)(features >> (32 * word)));
	}
	add_status(driver, VIRTIO_CONFIG_S_FEATURES_OK);
	return virtio_driver_read(driver, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

static void write_address(struct virtio_driver *driver, uint32_t offset, gpa_t address)
{
	virtio_driver_write(driver, offset, (uint32_t)address);
	virtio_driver_write(driver, offset + 4, (uint32_t)(address >> 32));
}

void virtio_driver_setup_queue(struct virtio_driver *driver, unsigned index, uint16_t size)
{
	struct ring *ring = &driver->rings[index];

	ring_init(ring, driver->memory, RINGS_BASE + index * RING_BYTES, size);
	virtio_driver_write(driver, VIRTIO_MMIO_QUEUE_SEL, index);
	virtio_driver_write(driver, VIRTIO_MMIO_QUEUE_NUM, size);
	write_address(driver, VIRTIO_MMIO_QUEUE_DESC_LOW, ring->descriptors);
	write_address(driver, VIRTIO_MMIO_QUEUE_AVAIL_LOW, ring->available);
	write_address(driver, VIRTIO_MMIO_QUEUE_USED_LOW, ring->used);
	virtio_driver_write(driver, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(virtio_driver_read(driver, VIRTIO_MMIO_QUEUE_READY), 1);
}

void virtio_driver_start(struct virtio_driver *driver, uint64_t features)
{
	assert_true(virtio_driver_negotiate(driver, features | VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	for (unsigned i = 0; i < virtio_mmio_queue_count(driver->mmio); i++) {
		uint16_t size = VIRTIO_DRIVER_QUEUE_SIZE;

		virtio_driver_write(driver, VIRTIO_MMIO_QUEUE_SEL, i);
		while (size > virtio_driver_read(driver, VIRTIO_MMIO_QUEUE_NUM_MAX))
			size /= 2;
		virtio_driver_setup_queue(driver, i, size);
	}
	add_status(driver, VIRTIO_CONFIG_S_DRIVER_OK);
}

void virtio_driver_kick(struct virtio_driver *driver, unsigned index)
{
	virtio_driver_write(driver, VIRTIO_MMIO_QUEUE_NOTIFY, index);
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 100 * 1000}, NULL);
}

bool virtio_driver_wait_used(struct virtio_driver *driver, unsigned index, uint16_t *head,
			     uint32_t *written)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_NS;

	while (!ring_take_used(&driver->rings[index], head, written)) {
		if (clock_monotonic_ns() > deadline)
			return false;
		nap();
	}
	return true;
}

bool virtio_driver_interrupted(struct virtio_driver *driver)
{
	eventfd_t count;

	return eventfd_read(virtio_mmio_irq_fd(driver->mmio), &count) == 0;
}

uint32_t virtio_driver_wait_interrupt(struct virtio_driver *driver)
{
	struct pollfd interrupt = {.fd = virtio_mmio_irq_fd(driver->mmio), .events = POLLIN};
	uint32_t status;

	if (poll(&interrupt, 1, (int)(PATIENCE_NS / NS_PER_MS)) != 1)
		return 0;
	virtio_driver_interrupted(driver);
	status = virtio_driver_read(driver, VIRTIO_MMIO_INTERRUPT_STATUS);
	virtio_driver_write(driver, VIRTIO_MMIO_INTERRUPT_ACK, status);
	return status;
}

bool virtio_driver_wait_status(struct virtio_driver *driver, uint32_t bits)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_NS;

	while ((virtio_driver_read(driver, VIRTIO_MMIO_STATUS) & bits) != bits) {
		if (clock_monotonic_ns() > deadline)
			return false;
		nap();
	}
	return true;
}
