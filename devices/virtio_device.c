#include "devices/virtio_device.h"

#include <assert.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>

#define CORE_FEATURES                                                                              \
	(VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |        \
	 VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX))

static void reset_queues(struct virtio_device *device)
{
	for (unsigned i = 0; i < device->ops->queue_count; i++)
		virtqueue_reset(&device->queues[i]);
}

int virtio_device_init(struct virtio_device *device, const struct virtio_device_ops *ops,
		       const struct guest_memory *memory, struct event_loop *io_loop,
		       uint64_t features)
{
	int result;

	assert(ops->queue_count <= VIRTIO_QUEUES_MAX);
	assert(ops->queue_size <= VIRTQUEUE_SIZE_MAX);
	result = -pthread_mutex_init(&device->lock, NULL);
	if (result)
		return result;
	device->ops = ops;
	device->memory = memory;
	device->io_loop = io_loop;
	device->offered_features = features | CORE_FEATURES;
	device->driver_features = 0;
	device->status = 0;
	device->config_generation = 0;
	atomic_store(&device->interrupt_status, 0);
	device->irq_fd = -1;
	device->in_flight = 0;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		device->kick_fds[i] = -1;
		device->queues[i] = (struct virtqueue){
			.memory = memory,
			.size_max = i < ops->queue_count ? ops->queue_size : 0,
		};
	}
	return 0;
}

void virtio_device_fini(struct virtio_device *device)
{
	pthread_mutex_destroy(&device->lock);
}

void virtio_device_destroy(struct virtio_device *device)
{
	if (device)
		device->ops->destroy(device);
}

bool virtio_device_has_feature(const struct virtio_device *device, unsigned bit)
{
	return device->driver_features & VIRTIO_FEATURE(bit);
}

bool virtio_device_is_live(const struct virtio_device *device)
{
	return (device->status & VIRTIO_CONFIG_S_DRIVER_OK) &&
	       !(device->status & (VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED));
}

void virtio_device_kick_queue(struct virtio_device *device, unsigned index)
{
	if (device->kick_fds[index] >= 0)
		eventfd_write(device->kick_fds[index], 1);
}

void virtio_device_copy_config(const void *config, size_t config_size, uint32_t offset, void *data,
			       unsigned size)
{
	size_t rest = offset < config_size ? config_size - offset : 0;

	memset(data, 0, size);
	memcpy(data, (const char *)config + (rest ? offset : 0), size < rest ? size : rest);
}

/* The bit first, then the edge: a handler that runs sees why. */
static void interrupt(struct virtio_device *device, unsigned reason)
{
	atomic_fetch_or(&device->interrupt_status, reason);
	if (device->irq_fd >= 0)
		eventfd_write(device->irq_fd, 1);
}

void virtio_device_signal_queue(struct virtio_device *device, struct virtqueue *queue)
{
	if (virtio_device_is_live(device) && virtqueue_needs_interrupt(queue))
		interrupt(device, VIRTIO_MMIO_INT_VRING);
}

void virtio_device_signal_config(struct virtio_device *device)
{
	device->config_generation++;
	if (device->status & VIRTIO_CONFIG_S_DRIVER_OK)
		interrupt(device, VIRTIO_MMIO_INT_CONFIG);
}

void virtio_device_needs_reset(struct virtio_device *device, const char *why)
{
	if (device->status == 0 || (device->status & VIRTIO_CONFIG_S_NEEDS_RESET))
		return; /* a straggler from before the reset, or told already */
	if (log_ratelimit_pass(&device->guest_errors))
		log_warning("%s: the guest's driver broke the protocol: %s; the device stops until "
			    "the driver resets it",
			    device->ops->name, why);
	device->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio_device_signal_config(device);
}

int virtio_device_reset(struct virtio_device *device, uint64_t deadline)
{
	int result = 0;

	device->status = 0;
	reset_queues(device);
	if (device->ops->reset)
		result = device->ops->reset(device, deadline);
	device->driver_features = 0;
	atomic_store(&device->interrupt_status, 0);
	return result;
}

static bool features_are_acceptable(const struct virtio_device *device)
{
	return virtio_device_has_feature(device, VIRTIO_F_VERSION_1) &&
	       !(device->driver_features & ~device->offered_features);
}

static void complain(struct virtio_device *device, const char *what)
{
	if (log_ratelimit_pass(&device->guest_errors))
		log_warning("%s: the guest's driver %s", device->ops->name, what);
}

void virtio_device_set_status(struct virtio_device *device, uint8_t status)
{
	uint8_t added = status & ~device->status & ~VIRTIO_CONFIG_S_NEEDS_RESET;

	if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_are_acceptable(device)) {
		complain(device, "asks for features that cannot be had; FEATURES_OK refused");
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	}
	if ((added & VIRTIO_CONFIG_S_DRIVER_OK) &&
	    !((device->status | added) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		complain(device, "sets DRIVER_OK without FEATURES_OK; refused");
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	}
	device->status |= added;
	if (!(added & VIRTIO_CONFIG_S_DRIVER_OK))
		return;
	/* What was made available before DRIVER_OK is served too. */
	for (unsigned i = 0; i < device->ops->queue_count; i++) {
		if (device->queues[i].ready)
			virtio_device_kick_queue(device, i);
	}
}
