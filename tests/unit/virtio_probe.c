#include "virtio_probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>

#include "devices/deadline.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"

static void probe_read_config(struct virtio_device *device, uint32_t offset, void *data,
			      unsigned size)
{
	struct probe *probe = container_of(device, struct probe, device);

	if (range_within(offset, size, CONFIG_SIZE))
		memcpy(data, probe->config + offset, size);
}

static void probe_write_config(struct virtio_device *device, uint32_t offset, const void *data,
			       unsigned size)
{
	struct probe *probe = container_of(device, struct probe, device);

	probe->last_write_size = size;
	if (range_within(offset, size, CONFIG_SIZE))
		memcpy(probe->config + offset, data, size);
}

static void probe_serve(struct virtio_device *device, unsigned index)
{
	atomic_fetch_add(&container_of(device, struct probe, device)->served[index], 1);
}

static int probe_reset(struct virtio_device *device, uint64_t deadline)
{
	struct probe *probe = container_of(device, struct probe, device);

	probe->resets++;
	while (atomic_load(&probe->hold_reset)) {
		if (deadline_is_over(deadline))
			return -ETIMEDOUT;
		pthread_mutex_unlock(&device->lock);
		atomic_store(&probe->reset_waits, true);
		sched_yield();
		pthread_mutex_lock(&device->lock);
	}
	return 0;
}

static void probe_destroy(struct virtio_device *device)
{
	struct probe *probe = container_of(device, struct probe, device);

	if (probe->destroyed)
		*probe->destroyed = true;
	virtio_device_fini(device);
	free(probe);
}

static const struct virtio_device_ops probe_ops = {
	.name = "virtio-probe",
	.device_id = PROBE_ID,
	.queue_count = PROBE_QUEUES,
	.queue_size = 64,
	.read_config = probe_read_config,
	.write_config = probe_write_config,
	.serve_queue = probe_serve,
	.reset = probe_reset,
	.destroy = probe_destroy,
};

int probe_setup(void **state)
{
	static struct probe_fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	virtio_driver_setup(&fixture.driver, 4 * MIB);
	fixture.probe = calloc(1, sizeof(*fixture.probe));
	for (unsigned i = 0; i < CONFIG_SIZE; i++)
		fixture.probe->config[i] = (uint8_t)(0x10 + i);
	if (virtio_device_init(&fixture.probe->device, &probe_ops, fixture.driver.memory,
			       fixture.driver.loop, VIRTIO_FEATURE(PROBE_FEATURE)))
		return -1;
	virtio_driver_attach(&fixture.driver, &fixture.probe->device);
	*state = &fixture;
	return 0;
}

int probe_teardown(void **state)
{
	struct probe_fixture *fixture = *state;

	virtio_driver_teardown(&fixture->driver);
	return 0;
}

uint32_t reg(struct probe_fixture *fixture, uint32_t offset)
{
	return virtio_driver_read(&fixture->driver, offset);
}

void set_reg(struct probe_fixture *fixture, uint32_t offset, uint32_t value)
{
	virtio_driver_write(&fixture->driver, offset, value);
}

bool probe_wait_served(struct probe_fixture *fixture, unsigned index, unsigned times)
{
	for (unsigned i = 0; i < 5000000; i++) {
		if (atomic_load(&fixture->probe->served[index]) >= times)
			return true;
		sched_yield();
	}
	return false;
}

void probe_start(struct probe_fixture *fixture)
{
	virtio_driver_start(&fixture->driver, 0);
	assert_true(probe_wait_served(fixture, 0, 1)); /* once by DRIVER_OK */
	assert_true(probe_wait_served(fixture, 1, 1));
}
