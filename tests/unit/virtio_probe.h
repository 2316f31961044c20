/*
 * A virtio device that only remembers what it was told, behind a transport: for tests of the core.
 */
#ifndef EBB_TESTS_VIRTIO_PROBE_H
#define EBB_TESTS_VIRTIO_PROBE_H

#include <linux/virtio_config.h>
#include <stdatomic.h>

#include "virtio_driver.h"

#define PROBE_ID      42u
#define PROBE_FEATURE 5u
#define PROBE_QUEUES  2u
#define CONFIG_SIZE   16u

#define READY_STATUS                                                                               \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)

struct probe {
	struct virtio_device device;
	uint8_t config[CONFIG_SIZE];
	unsigned last_write_size;
	unsigned resets;
	atomic_uint served[PROBE_QUEUES];
	atomic_bool reset_waits; /* reset() lets go of the lock until hold_reset is false */
	atomic_bool hold_reset;
	bool *destroyed;
};

struct probe_fixture {
	struct virtio_driver driver;
	struct probe *probe;
};

/* cmocka's set-up and tear-down: *state is a struct probe_fixture. */
int probe_setup(void **state);
int probe_teardown(void **state);

uint32_t reg(struct probe_fixture *fixture, uint32_t offset);
void set_reg(struct probe_fixture *fixture, uint32_t offset, uint32_t value);

/* Waits until queue @index was served that often; false if it takes too long. */
bool probe_wait_served(struct probe_fixture *fixture, unsigned index, unsigned times);

/* Starts the driver and waits until both queues were served once, as they are by DRIVER_OK. */
void probe_start(struct probe_fixture *fixture);

#endif
