/* The register interface: queues, kicks and interrupts. */
#include "devices/virtio_mmio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>

#include "virtio_probe.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"

static void tells_the_queue_sizes(void **state)
{
	set_reg(*state, VIRTIO_MMIO_QUEUE_SEL, 1);
	assert_int_equal(reg(*state, VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
	set_reg(*state, VIRTIO_MMIO_QUEUE_SEL, PROBE_QUEUES);
	assert_int_equal(reg(*state, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	set_reg(*state, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(reg(*state, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
}

static void ignores_queues_that_do_not_exist(void **state)
{
	set_reg(*state, VIRTIO_MMIO_QUEUE_SEL, VIRTIO_QUEUES_MAX + 1);
	set_reg(*state, VIRTIO_MMIO_QUEUE_NUM, 16);
	set_reg(*state, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
	set_reg(*state, VIRTIO_MMIO_QUEUE_READY, 1);
	set_reg(*state, VIRTIO_MMIO_QUEUE_NOTIFY, UINT32_MAX);

	assert_int_equal(reg(*state, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void a_queue_is_set_up_by_its_registers(void **state)
{
	struct probe_fixture *fixture = *state;
	const struct virtqueue *queue = &fixture->probe->device.queues[1];

	virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
							  VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	virtio_driver_setup_queue(&fixture->driver, 1, 32);

	assert_true(queue->ready);
	assert_int_equal(queue->size, 32);
	assert_true(queue->event_index);
	assert_false(queue->indirect);
	assert_int_equal(queue->descriptors, fixture->driver.rings[1].descriptors);
	assert_int_equal(queue->available, fixture->driver.rings[1].available);
	assert_int_equal(queue->used, fixture->driver.rings[1].used);
	assert_false(fixture->probe->device.queues[0].ready);
}

static void addresses_have_64_bits(void **state)
{
	struct probe_fixture *fixture = *state;

	set_reg(fixture, VIRTIO_MMIO_QUEUE_SEL, 0);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0x12345678);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x9abcdef0);

	assert_true(fixture->probe->device.queues[0].descriptors == 0x123456789abcdef0ull);
}

static void refuses_a_queue_before_features_ok(void **state)
{
	struct probe_fixture *fixture = *state;

	set_reg(fixture, VIRTIO_MMIO_QUEUE_NUM, 16);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1000);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_USED_LOW, 0x2000);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_READY, 1);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void refuses_a_queue_with_a_bad_layout(void **state)
{
	static const uint32_t sizes[] = {0, 3, 65, 128, 65536 + 16, UINT32_MAX};
	struct probe_fixture *fixture = *state;

	virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	set_reg(fixture, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1000);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_USED_LOW, 0x2000);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		set_reg(fixture, VIRTIO_MMIO_QUEUE_NUM, sizes[i]);
		set_reg(fixture, VIRTIO_MMIO_QUEUE_READY, 1);
		assert_int_equal(reg(fixture, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	set_reg(fixture, VIRTIO_MMIO_QUEUE_NUM, 16);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_USED_HIGH, 1);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_READY, 1);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_QUEUE_READY), 0);
}

static void the_layout_is_frozen_while_a_queue_is_ready(void **state)
{
	struct probe_fixture *fixture = *state;
	const struct virtqueue *queue = &fixture->probe->device.queues[0];

	probe_start(fixture);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_SEL, 0);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_NUM, 64);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffffffff);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0xfffffff0);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_USED_LOW, 0xfffffff0);

	assert_int_equal(queue->size, VIRTIO_DRIVER_QUEUE_SIZE);
	assert_int_equal(queue->descriptors, fixture->driver.rings[0].descriptors);
	assert_int_equal(queue->available, fixture->driver.rings[0].available);
	assert_int_equal(queue->used, fixture->driver.rings[0].used);
}

static void a_stopped_queue_is_not_served(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_SEL, 1);
	set_reg(fixture, VIRTIO_MMIO_QUEUE_READY, 0);
	virtio_driver_kick(&fixture->driver, 1);
	virtio_driver_kick(&fixture->driver, 0);

	assert_true(probe_wait_served(fixture, 0, 2));
	virtio_driver_stop_loop(&fixture->driver);
	assert_int_equal(fixture->probe->served[1], 1);
}

/* Kicks and interrupts. */

static void a_register_write_kicks_the_queue(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	virtio_driver_kick(&fixture->driver, 1);

	assert_true(probe_wait_served(fixture, 1, 2));
	assert_int_equal(fixture->probe->served[0], 1);
}

static void the_queues_eventfd_kicks_it_too(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	eventfd_write(virtio_mmio_queue_eventfd(fixture->driver.mmio, 1), 1);

	assert_true(probe_wait_served(fixture, 1, 2));
}

static void kicks_before_driver_ok_wait_for_it(void **state)
{
	struct probe_fixture *fixture = *state;

	virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	virtio_driver_setup_queue(&fixture->driver, 0, 16);
	virtio_driver_kick(&fixture->driver, 0);
	virtio_driver_stop_loop(&fixture->driver);
	assert_int_equal(fixture->probe->served[0], 0);

	virtio_driver_start_loop(&fixture->driver);
	set_reg(fixture, VIRTIO_MMIO_STATUS, READY_STATUS);
	assert_true(probe_wait_served(fixture, 0, 1));
}

static void interrupts_carry_their_reason_until_acknowledged(void **state)
{
	struct probe_fixture *fixture = *state;
	struct virtio_device *device = &fixture->probe->device;

	probe_start(fixture);
	pthread_mutex_lock(&device->lock);
	virtqueue_push(&device->queues[0], 0, 0);
	virtio_device_signal_queue(device, &device->queues[0]);
	virtio_device_signal_config(device);
	pthread_mutex_unlock(&device->lock);

	assert_true(virtio_driver_interrupted(&fixture->driver));
	assert_int_equal(reg(fixture, VIRTIO_MMIO_INTERRUPT_STATUS),
			 VIRTIO_MMIO_INT_VRING | VIRTIO_MMIO_INT_CONFIG);
	set_reg(fixture, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_VRING);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	set_reg(fixture, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}

static void no_interrupt_comes_before_driver_ok(void **state)
{
	struct probe_fixture *fixture = *state;

	pthread_mutex_lock(&fixture->probe->device.lock);
	virtio_device_signal_config(&fixture->probe->device);
	pthread_mutex_unlock(&fixture->probe->device.lock);

	assert_false(virtio_driver_interrupted(&fixture->driver));
}

static void a_broken_device_is_not_served_until_reset(void **state)
{
	struct probe_fixture *fixture = *state;
	struct virtio_device *device = &fixture->probe->device;

	probe_start(fixture);
	pthread_mutex_lock(&device->lock);
	virtio_device_needs_reset(device, "test");
	pthread_mutex_unlock(&device->lock);
	virtio_driver_kick(&fixture->driver, 0);

	assert_int_equal(virtio_driver_wait_interrupt(&fixture->driver), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS),
			 READY_STATUS | VIRTIO_CONFIG_S_NEEDS_RESET);
	virtio_driver_stop_loop(&fixture->driver);
	assert_int_equal(fixture->probe->served[0], 1);

	virtio_driver_start_loop(&fixture->driver);
	virtio_driver_start(&fixture->driver, 0);
	assert_true(probe_wait_served(fixture, 0, 2));
}

int main(void)
{
#define MMIO_TEST(test) cmocka_unit_test_setup_teardown(test, probe_setup, probe_teardown)
	const struct CMUnitTest tests[] = {
		MMIO_TEST(tells_the_queue_sizes),
		MMIO_TEST(ignores_queues_that_do_not_exist),
		MMIO_TEST(a_queue_is_set_up_by_its_registers),
		MMIO_TEST(addresses_have_64_bits),
		MMIO_TEST(refuses_a_queue_before_features_ok),
		MMIO_TEST(refuses_a_queue_with_a_bad_layout),
		MMIO_TEST(the_layout_is_frozen_while_a_queue_is_ready),
		MMIO_TEST(a_stopped_queue_is_not_served),
		MMIO_TEST(a_register_write_kicks_the_queue),
		MMIO_TEST(the_queues_eventfd_kicks_it_too),
		MMIO_TEST(kicks_before_driver_ok_wait_for_it),
		MMIO_TEST(interrupts_carry_their_reason_until_acknowledged),
		MMIO_TEST(no_interrupt_comes_before_driver_ok),
		MMIO_TEST(a_broken_device_is_not_served_until_reset),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
