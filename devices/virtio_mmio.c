#include "devices/virtio_mmio.h"

#include <assert.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/deadline.h"
#include "vmm/base/checked.h"

#define MAGIC     0x74726976u /* "virt" */
#define VERSION   2u
#define VENDOR_ID 0x20424245u /* "EBB " */

#define NO_SHARED_MEMORY 0xffffffffu /* section 4.2.2: length and base of a region not there */

static_assert(VIRTIO_MMIO_NOTIFY_OFFSET == VIRTIO_MMIO_QUEUE_NOTIFY, "register layout");

/* What the event loop hands to on_kick(). */
struct kick {
	struct virtio_mmio *mmio;
	unsigned index;
	struct event_source *source;
};

struct virtio_mmio {
	struct virtio_device *device;
	struct kick kicks[VIRTIO_QUEUES_MAX];
	/* The rest is guarded by device->lock. */
	uint32_t device_features_select;
	uint32_t driver_features_select;
	uint32_t queue_select;
	bool odd_features; /* the driver acknowledged a bit above 63 */
	bool resetting;    /* the device may have dropped the lock to wait */
	pthread_cond_t reset_done;
};

static void on_kick(void *opaque, uint32_t events)
{
	struct kick *kick = opaque;
	struct virtio_device *device = kick->mmio->device;
	eventfd_t count;

	(void)events;
	eventfd_read(device->kick_fds[kick->index], &count);
	pthread_mutex_lock(&device->lock);
	if (virtio_device_is_live(device) && device->queues[kick->index].ready)
		device->ops->serve_queue(device, kick->index);
	pthread_mutex_unlock(&device->lock);
}

static int open_eventfd(int *fd)
{
	*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? -errno : 0;
}

static void close_eventfd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void remove_kicks(struct virtio_mmio *mmio)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		event_source_remove(mmio->kicks[i].source);
}

static void close_eventfds(struct virtio_device *device)
{
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		close_eventfd(&device->kick_fds[i]);
	close_eventfd(&device->irq_fd);
}

int virtio_mmio_create(struct virtio_device *device, struct event_loop *io_loop,
		       struct virtio_mmio **out)
{
	struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));
	int result;

	if (!mmio)
		return -ENOMEM;
	mmio->device = device;
	result = open_eventfd(&device->irq_fd);
	if (result)
		goto free_mmio;
	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		struct kick *kick = &mmio->kicks[i];

		kick->mmio = mmio;
		kick->index = i;
		result = open_eventfd(&device->kick_fds[i]);
		if (!result)
			result = event_loop_add(io_loop, device->kick_fds[i], EPOLLIN, on_kick,
						kick, &kick->source);
		if (result)
			goto remove_kicks;
	}
	result = -pthread_cond_init(&mmio->reset_done, NULL);
	if (result)
		goto remove_kicks;
	*out = mmio;
	return 0;

remove_kicks:
	remove_kicks(mmio);
	close_eventfds(device);
free_mmio:
	free(mmio);
	return result;
}

void virtio_mmio_destroy(struct virtio_mmio *mmio)
{
	int kick_fds[VIRTIO_QUEUES_MAX], irq_fd;

	if (!mmio)
		return;
	remove_kicks(mmio);
	/* The device may name them until it is gone. */
	memcpy(kick_fds, mmio->device->kick_fds, sizeof(kick_fds));
	irq_fd = mmio->device->irq_fd;
	virtio_device_destroy(mmio->device);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		close_eventfd(&kick_fds[i]);
	close_eventfd(&irq_fd);
	pthread_cond_destroy(&mmio->reset_done);
	free(mmio);
}

int virtio_mmio_irq_fd(const struct virtio_mmio *mmio)
{
	return mmio->device->irq_fd;
}

unsigned virtio_mmio_queue_count(const struct virtio_mmio *mmio)
{
	return mmio->device->ops->queue_count;
}

int virtio_mmio_queue_eventfd(const struct virtio_mmio *mmio, unsigned index)
{
	assert(index < virtio_mmio_queue_count(mmio));
	return mmio->device->kick_fds[index];
}

struct virtio_device *virtio_mmio_device(struct virtio_mmio *mmio)
{
	return mmio->device;
}

/* Takes the device's lock, at a moment when no reset is under way. */
static void lock(struct virtio_mmio *mmio)
{
	pthread_mutex_lock(&mmio->device->lock);
	while (mmio->resetting)
		pthread_cond_wait(&mmio->reset_done, &mmio->device->lock);
}

/* 0, or -ETIMEDOUT without the lock. */
static int lock_until(struct virtio_mmio *mmio, uint64_t deadline)
{
	const struct timespec until = deadline_timespec(deadline);
	const struct timespec pause = {.tv_nsec = (long)NS_PER_MS};
	pthread_mutex_t *mutex = &mmio->device->lock;
	int result = 0;

	/* Not pthread_mutex_clocklock(), which thread sanitizers do not know. */
	while (pthread_mutex_trylock(mutex)) {
		if (deadline_is_over(deadline))
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	while (mmio->resetting && !result)
		result = -pthread_cond_clockwait(&mmio->reset_done, mutex, CLOCK_MONOTONIC, &until);
	if (result)
		pthread_mutex_unlock(mutex);
	return result;
}

static void unlock(struct virtio_mmio *mmio)
{
	pthread_mutex_unlock(&mmio->device->lock);
}

static int reset_locked(struct virtio_mmio *mmio, uint64_t deadline)
{
	int result;

	mmio->resetting = true;
	result = virtio_device_reset(mmio->device, deadline);
	mmio->device_features_select = 0;
	mmio->driver_features_select = 0;
	mmio->queue_select = 0;
	mmio->odd_features = false;
	mmio->resetting = false;
	pthread_cond_broadcast(&mmio->reset_done);
	return result;
}

int virtio_mmio_reset(struct virtio_mmio *mmio, uint64_t timeout_ns)
{
	uint64_t deadline = deadline_in(timeout_ns);
	int result = lock_until(mmio, deadline);

	if (result)
		return result;
	result = reset_locked(mmio, deadline);
	unlock(mmio);
	return result;
}

static struct virtqueue *selected_queue(struct virtio_mmio *mmio)
{
	if (mmio->queue_select >= mmio->device->ops->queue_count)
		return NULL;
	return &mmio->device->queues[mmio->queue_select];
}

/* The 32 bits of @features that @select names. */
static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
	struct virtio_device *device = mmio->device;
	const struct virtqueue *queue = selected_queue(mmio);

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return device->ops->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return feature_word(device->offered_features, mmio->device_features_select);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return queue ? queue->size_max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return queue && (queue->ready || device->in_flight > 0);
	case VIRTIO_MMIO_STATUS:
		return device->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return device->config_generation;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return NO_SHARED_MEMORY;
	default:
		return 0; /* write-only or not there */
	}
}

static uint64_t read_config(struct virtio_mmio *mmio, uint64_t offset, unsigned size)
{
	struct virtio_device *device = mmio->device;
	uint8_t data[8] = {0};
	uint64_t value = 0;

	if (device->ops->read_config)
		device->ops->read_config(device, (uint32_t)offset, data, size);
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)data[i] << (8 * i);
	return value;
}

static void write_config(struct virtio_mmio *mmio, uint64_t offset, uint64_t value, unsigned size)
{
	struct virtio_device *device = mmio->device;
	uint8_t data[8];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(value >> (8 * i));
	if (device->ops->write_config)
		device->ops->write_config(device, (uint32_t)offset, data, size);
}

static bool is_register_access(uint64_t offset, unsigned size)
{
	return size == sizeof(uint32_t) && is_aligned(offset, sizeof(uint32_t));
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
	struct virtio_mmio *mmio = opaque;
	uint64_t value;

	if (offset < VIRTIO_MMIO_CONFIG && !is_register_access(offset, size))
		return 0;
	/* Read at every interrupt, while the I/O thread may be busy with the lock held. */
	if (offset == VIRTIO_MMIO_INTERRUPT_STATUS)
		return atomic_load(&mmio->device->interrupt_status);
	lock(mmio);
	if (offset < VIRTIO_MMIO_CONFIG)
		value = read_register(mmio, offset);
	else
		value = read_config(mmio, offset - VIRTIO_MMIO_CONFIG, size);
	unlock(mmio);
	return value;
}

static void write_driver_features(struct virtio_mmio *mmio, uint32_t value)
{
	struct virtio_device *device = mmio->device;
	unsigned shift = 32 * (mmio->driver_features_select & 1);

	if (device->status & VIRTIO_CONFIG_S_FEATURES_OK)
		return; /* settled */
	if (mmio->driver_features_select > 1) {
		mmio->odd_features |= value != 0;
		return;
	}
	device->driver_features &= ~(0xffffffffull << shift);
	device->driver_features |= (uint64_t)value << shift;
}

static void write_status(struct virtio_mmio *mmio, uint32_t value)
{
	if (value == 0) {
		reset_locked(mmio, DEADLINE_NEVER);
		return;
	}
	if (mmio->odd_features)
		value &= ~(uint32_t)VIRTIO_CONFIG_S_FEATURES_OK;
	virtio_device_set_status(mmio->device, (uint8_t)value);
}

/*
 * A driver that stops a queue reads QueueReady back before it puts the memory to another use
 * (section 4.2.2.2): it reads 1, and nobody waits here, as long as transfers are under way.
 */
static void write_queue_ready(struct virtio_mmio *mmio, struct virtqueue *queue, uint32_t value)
{
	struct virtio_device *device = mmio->device;

	if (value != 1) {
		queue->ready = false;
		return;
	}
	if (queue->ready)
		return;
	/* The layout of the rings depends on the features. */
	if (!(device->status & VIRTIO_CONFIG_S_FEATURES_OK))
		return;
	queue->event_index = virtio_device_has_feature(device, VIRTIO_RING_F_EVENT_IDX);
	queue->indirect = virtio_device_has_feature(device, VIRTIO_RING_F_INDIRECT_DESC);
	if (virtqueue_enable(queue) && log_ratelimit_pass(&device->guest_errors))
		log_warning("%s: the guest's driver set up queue %u with a bad size or address; "
			    "refused",
			    device->ops->name, mmio->queue_select);
}

static void set_low(gpa_t *address, uint32_t value)
{
	*address = (*address & ~0xffffffffull) | value;
}

static void set_high(gpa_t *address, uint32_t value)
{
	*address = (*address & 0xffffffffull) | (uint64_t)value << 32;
}

/* Registers of the selected queue. Its layout is frozen while it is in use: it has been checked. */
static void write_queue_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtqueue *queue = selected_queue(mmio);

	if (!queue)
		return;
	if (offset == VIRTIO_MMIO_QUEUE_READY) {
		write_queue_ready(mmio, queue, value);
		return;
	}
	if (queue->ready)
		return;
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		queue->size = value <= queue->size_max ? (uint16_t)value : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		set_low(&queue->descriptors, value);
		break;
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_high(&queue->descriptors, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
		set_low(&queue->available, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_high(&queue->available, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		set_low(&queue->used, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_high(&queue->used, value);
		break;
	default:
		break; /* read-only or not there */
	}
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->device_features_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_features_select = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		write_driver_features(mmio, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue_select = value;
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(mmio, value);
		break;
	default:
		write_queue_register(mmio, offset, value);
		break;
	}
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct virtio_mmio *mmio = opaque;

	if (offset < VIRTIO_MMIO_CONFIG && !is_register_access(offset, size))
		return;
	/* These two need no lock, and a vCPU shall not wait for it when it kicks. */
	if (offset == VIRTIO_MMIO_QUEUE_NOTIFY) {
		if (value < mmio->device->ops->queue_count)
			virtio_device_kick_queue(mmio->device, (unsigned)value);
		return;
	}
	if (offset == VIRTIO_MMIO_INTERRUPT_ACK) {
		atomic_fetch_and(&mmio->device->interrupt_status, ~(unsigned)value);
		return;
	}
	lock(mmio);
	if (offset < VIRTIO_MMIO_CONFIG)
		write_register(mmio, offset, (uint32_t)value);
	else
		write_config(mmio, offset - VIRTIO_MMIO_CONFIG, value, size);
	unlock(mmio);
}

const struct bus_ops virtio_mmio_bus_ops = {
	.read = mmio_read,
	.write = mmio_write,
};

static uint64_t placeholder_read(void *opaque, uint64_t offset, unsigned size)
{
	(void)opaque;
	if (!is_register_access(offset, size))
		return 0;
	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	default:
		return 0; /* DeviceID 0 in particular */
	}
}

static void placeholder_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	(void)opaque;
	(void)offset;
	(void)value;
	(void)size;
}

const struct bus_ops virtio_mmio_placeholder_bus_ops = {
	.read = placeholder_read,
	.write = placeholder_write,
};
