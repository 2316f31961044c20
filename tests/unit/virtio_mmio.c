/* The register interface: identification, features, status, reset, configuration space. */
#include "devices/virtio_mmio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sched.h>

#include "virtio_probe.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"

static void identifies_itself(void **state)
{
	assert_int_equal(reg(*state, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(reg(*state, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(reg(*state, VIRTIO_MMIO_DEVICE_ID), PROBE_ID);
	assert_int_not_equal(reg(*state, VIRTIO_MMIO_VENDOR_ID), 0);
}

static void an_empty_slot_has_device_id_zero(void **state)
{
	const struct bus_ops *ops = &virtio_mmio_placeholder_bus_ops;

	(void)state;
	ops->write(NULL, VIRTIO_MMIO_STATUS, 1, 4);
	assert_int_equal(ops->read(NULL, VIRTIO_MMIO_MAGIC_VALUE, 4), 0x74726976);
	assert_int_equal(ops->read(NULL, VIRTIO_MMIO_VERSION, 4), 2);
	assert_int_equal(ops->read(NULL, VIRTIO_MMIO_DEVICE_ID, 4), 0);
	assert_int_equal(ops->read(NULL, VIRTIO_MMIO_STATUS, 4), 0);
}

static void registers_take_aligned_words_only(void **state)
{
	struct probe_fixture *fixture = *state;
	struct virtio_mmio *mmio = fixture->driver.mmio;

	assert_int_equal(virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_MAGIC_VALUE, 1), 0);
	assert_int_equal(virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_MAGIC_VALUE, 2), 0);
	assert_int_equal(virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_MAGIC_VALUE, 8), 0);
	assert_int_equal(virtio_mmio_bus_ops.read(mmio, VIRTIO_MMIO_MAGIC_VALUE + 2, 4), 0);
	virtio_mmio_bus_ops.write(mmio, VIRTIO_MMIO_STATUS, 1, 1);
	virtio_mmio_bus_ops.write(mmio, VIRTIO_MMIO_STATUS, 1, 8);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0);
}

static void unknown_registers_read_zero_and_ignore_writes(void **state)
{
	static const uint32_t unknown[] = {0x18, 0x2c, 0x3c, 0x58, 0x68, 0xc0, 0xf8};

	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		set_reg(*state, unknown[i], 0xffffffff);
		assert_int_equal(reg(*state, unknown[i]), 0);
	}
}

static void there_is_no_shared_memory(void **state)
{
	assert_int_equal(reg(*state, VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
	assert_int_equal(reg(*state, VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff);
	assert_int_equal(reg(*state, VIRTIO_MMIO_SHM_BASE_LOW), 0xffffffff);
	assert_int_equal(reg(*state, VIRTIO_MMIO_SHM_BASE_HIGH), 0xffffffff);
}

/* Features and status. */

static void offers_its_features_in_two_words(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_true(virtio_driver_offered_features(&fixture->driver) ==
		    (VIRTIO_FEATURE(PROBE_FEATURE) | VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
		     VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC) |
		     VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX)));
	set_reg(fixture, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_DEVICE_FEATURES), 0);
}

static void accepts_offered_features(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_true(
		virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
								  VIRTIO_FEATURE(PROBE_FEATURE)));
	assert_true(virtio_device_has_feature(&fixture->probe->device, PROBE_FEATURE));
}

static void refuses_a_driver_without_version_1(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_false(virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(PROBE_FEATURE)));
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS),
			 VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
}

static void refuses_features_that_were_not_offered(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_false(virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
								       VIRTIO_FEATURE(6)));
	assert_false(virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
								       VIRTIO_FEATURE(63)));
}

static void refuses_features_above_bit_63(void **state)
{
	struct probe_fixture *fixture = *state;

	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 2);
	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES, 1);
	set_reg(fixture, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_FEATURES_OK);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0);
}

static void features_are_frozen_by_features_ok(void **state)
{
	struct probe_fixture *fixture = *state;

	virtio_driver_negotiate(&fixture->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set_reg(fixture, VIRTIO_MMIO_DRIVER_FEATURES, 1u << PROBE_FEATURE);

	assert_false(virtio_device_has_feature(&fixture->probe->device, PROBE_FEATURE));
}

static void refuses_driver_ok_without_features_ok(void **state)
{
	struct probe_fixture *fixture = *state;

	set_reg(fixture, VIRTIO_MMIO_STATUS, 0x7);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0x3);
	assert_false(virtio_device_is_live(&fixture->probe->device));
}

static void driver_ok_makes_the_device_live(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), READY_STATUS);
	assert_true(virtio_device_is_live(&fixture->probe->device));
}

static void status_bits_are_cleared_by_reset_only(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	set_reg(fixture, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), READY_STATUS);
}

static void the_driver_cannot_set_needs_reset(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	set_reg(fixture, VIRTIO_MMIO_STATUS, READY_STATUS | VIRTIO_CONFIG_S_NEEDS_RESET);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), READY_STATUS);
}

static void a_reset_forgets_everything(void **state)
{
	struct probe_fixture *fixture = *state;

	virtio_driver_start(&fixture->driver, VIRTIO_FEATURE(PROBE_FEATURE));
	pthread_mutex_lock(&fixture->probe->device.lock);
	virtio_device_signal_config(&fixture->probe->device);
	pthread_mutex_unlock(&fixture->probe->device.lock);
	set_reg(fixture, VIRTIO_MMIO_STATUS, 0);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_INTERRUPT_STATUS), 0);
	for (unsigned i = 0; i < PROBE_QUEUES; i++) {
		set_reg(fixture, VIRTIO_MMIO_QUEUE_SEL, i);
		assert_int_equal(reg(fixture, VIRTIO_MMIO_QUEUE_READY), 0);
	}
	assert_false(virtio_device_has_feature(&fixture->probe->device, PROBE_FEATURE));
	/* One by the negotiation, one by this test. */
	assert_int_equal(fixture->probe->resets, 2);
}

static void a_machine_reset_does_the_same(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	virtio_mmio_reset(fixture->driver.mmio, UINT64_MAX);

	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_QUEUE_READY), 0);
	probe_start(fixture);
}

static void *write_status_driver(void *opaque)
{
	set_reg(opaque, VIRTIO_MMIO_STATUS, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	return NULL;
}

static void *reset_machine(void *opaque)
{
	struct probe_fixture *fixture = opaque;

	virtio_mmio_reset(fixture->driver.mmio, UINT64_MAX);
	return NULL;
}

static void registers_wait_while_a_reset_waits_for_transfers(void **state)
{
	struct probe_fixture *fixture = *state;
	pthread_t resetter, writer;

	probe_start(fixture);
	atomic_store(&fixture->probe->hold_reset, true);
	assert_int_equal(pthread_create(&resetter, NULL, reset_machine, fixture), 0);
	while (!atomic_load(&fixture->probe->reset_waits))
		sched_yield();
	assert_int_equal(pthread_create(&writer, NULL, write_status_driver, fixture), 0);
	atomic_store(&fixture->probe->hold_reset, false);
	pthread_join(resetter, NULL);
	pthread_join(writer, NULL);

	/* Had the write come in between, the reset would have been undone half-way or lost it. */
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), VIRTIO_CONFIG_S_ACKNOWLEDGE);
}

static void a_reset_with_a_limit_gives_up_on_transfers(void **state)
{
	struct probe_fixture *fixture = *state;

	probe_start(fixture);
	atomic_store(&fixture->probe->hold_reset, true);
	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, 20 * NS_PER_MS), -ETIMEDOUT);

	atomic_store(&fixture->probe->hold_reset, false);
	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, 5 * NS_PER_SEC), 0);
	assert_int_equal(reg(fixture, VIRTIO_MMIO_STATUS), 0);
	probe_start(fixture);
}

static void a_reset_with_a_limit_gives_up_on_the_lock(void **state)
{
	struct probe_fixture *fixture = *state;
	struct virtio_device *device = &fixture->probe->device;

	probe_start(fixture);
	pthread_mutex_lock(&device->lock);
	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, 20 * NS_PER_MS), -ETIMEDOUT);
	pthread_mutex_unlock(&device->lock);

	assert_int_equal(fixture->probe->resets, 1); /* by the start */
	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, UINT64_MAX), 0);
	assert_int_equal(fixture->probe->resets, 2);
}

static void a_reset_with_a_limit_gives_up_on_another_reset(void **state)
{
	struct probe_fixture *fixture = *state;
	pthread_t resetter;

	probe_start(fixture);
	atomic_store(&fixture->probe->hold_reset, true);
	assert_int_equal(pthread_create(&resetter, NULL, reset_machine, fixture), 0);
	while (!atomic_load(&fixture->probe->reset_waits))
		sched_yield();
	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, 20 * NS_PER_MS), -ETIMEDOUT);
	atomic_store(&fixture->probe->hold_reset, false);
	pthread_join(resetter, NULL);

	assert_int_equal(virtio_mmio_reset(fixture->driver.mmio, 0), 0);
}

/* Configuration space. */

static void configuration_is_read_in_every_size(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_int_equal(virtio_driver_read_config(&fixture->driver, 1, 1), 0x11);
	assert_int_equal(virtio_driver_read_config(&fixture->driver, 2, 2), 0x1312);
	assert_int_equal(virtio_driver_read_config(&fixture->driver, 4, 4), 0x17161514);
	assert_true(virtio_driver_read_config(&fixture->driver, 8, 8) == 0x1f1e1d1c1b1a1918ull);
}

static void configuration_outside_reads_zero(void **state)
{
	struct probe_fixture *fixture = *state;

	assert_int_equal(virtio_driver_read_config(&fixture->driver, CONFIG_SIZE, 4), 0);
	assert_int_equal(virtio_driver_read_config(&fixture->driver, 0xf8, 8), 0);
	virtio_driver_write_config(&fixture->driver, 0xf8, UINT64_MAX, 8);
}

static void configuration_is_written_in_every_size(void **state)
{
	struct probe_fixture *fixture = *state;

	virtio_driver_write_config(&fixture->driver, 1, 0xa1, 1);
	assert_int_equal(fixture->probe->last_write_size, 1);
	virtio_driver_write_config(&fixture->driver, 4, 0xa7a6a5a4, 4);
	assert_int_equal(fixture->probe->last_write_size, 4);
	virtio_driver_write_config(&fixture->driver, 8, 0xafaeadacabaaa9a8ull, 8);
	assert_int_equal(fixture->probe->config[1], 0xa1);
	assert_int_equal(fixture->probe->config[7], 0xa7);
	assert_int_equal(fixture->probe->config[15], 0xaf);
}

static void a_change_of_configuration_makes_a_new_generation(void **state)
{
	struct probe_fixture *fixture = *state;
	uint32_t before = reg(fixture, VIRTIO_MMIO_CONFIG_GENERATION);

	probe_start(fixture);
	pthread_mutex_lock(&fixture->probe->device.lock);
	virtio_device_signal_config(&fixture->probe->device);
	pthread_mutex_unlock(&fixture->probe->device.lock);

	assert_int_not_equal(reg(fixture, VIRTIO_MMIO_CONFIG_GENERATION), before);
	assert_int_equal(virtio_driver_wait_interrupt(&fixture->driver), VIRTIO_MMIO_INT_CONFIG);
}

static void destroying_the_transport_destroys_the_device(void **state)
{
	struct probe_fixture *fixture = *state;
	bool destroyed = false;

	fixture->probe->destroyed = &destroyed;
	virtio_driver_stop_loop(&fixture->driver);
	virtio_mmio_destroy(fixture->driver.mmio);
	fixture->driver.mmio = NULL;

	assert_true(destroyed);
	virtio_mmio_destroy(NULL);
	virtio_device_destroy(NULL);
}

int main(void)
{
#define MMIO_TEST(test) cmocka_unit_test_setup_teardown(test, probe_setup, probe_teardown)
	const struct CMUnitTest tests[] = {
		MMIO_TEST(identifies_itself),
		cmocka_unit_test(an_empty_slot_has_device_id_zero),
		MMIO_TEST(registers_take_aligned_words_only),
		MMIO_TEST(unknown_registers_read_zero_and_ignore_writes),
		MMIO_TEST(there_is_no_shared_memory),
		MMIO_TEST(offers_its_features_in_two_words),
		MMIO_TEST(accepts_offered_features),
		MMIO_TEST(refuses_a_driver_without_version_1),
		MMIO_TEST(refuses_features_that_were_not_offered),
		MMIO_TEST(refuses_features_above_bit_63),
		MMIO_TEST(features_are_frozen_by_features_ok),
		MMIO_TEST(refuses_driver_ok_without_features_ok),
		MMIO_TEST(driver_ok_makes_the_device_live),
		MMIO_TEST(status_bits_are_cleared_by_reset_only),
		MMIO_TEST(the_driver_cannot_set_needs_reset),
		MMIO_TEST(a_reset_forgets_everything),
		MMIO_TEST(a_machine_reset_does_the_same),
		MMIO_TEST(registers_wait_while_a_reset_waits_for_transfers),
		MMIO_TEST(a_reset_with_a_limit_gives_up_on_transfers),
		MMIO_TEST(a_reset_with_a_limit_gives_up_on_the_lock),
		MMIO_TEST(a_reset_with_a_limit_gives_up_on_another_reset),
		MMIO_TEST(configuration_is_read_in_every_size),
		MMIO_TEST(configuration_outside_reads_zero),
		MMIO_TEST(configuration_is_written_in_every_size),
		MMIO_TEST(a_change_of_configuration_makes_a_new_generation),
		MMIO_TEST(destroying_the_transport_destroys_the_device),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
