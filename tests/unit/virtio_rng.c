#include "devices/virtio_rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "virtio_driver.h"
#include "vmm/base/log.h"
#include "vmm/base/size.h"

static int setup(void **state)
{
	static struct virtio_driver driver;
	struct virtio_device *device = NULL;

	virtio_driver_setup(&driver, 4 * MIB);
	assert_int_equal(virtio_rng_create(driver.memory, driver.loop, &device), 0);
	virtio_driver_attach(&driver, device);
	*state = &driver;
	return 0;
}

static int teardown(void **state)
{
	virtio_driver_teardown(*state);
	return 0;
}

static bool is_filled(struct virtio_driver *driver, gpa_t gpa, size_t length)
{
	uint8_t data[256], zeros[sizeof(data)] = {0};

	assert_true(length >= 16 && length <= sizeof(data));
	ring_read(&driver->rings[0], gpa, data, length);
	return memcmp(data, zeros, length) != 0;
}

static void fills_a_buffer_and_interrupts(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 64, true};
	uint16_t added, head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	added = ring_add(&driver->rings[0], &buffer, 1);
	virtio_driver_kick(driver, 0);

	assert_int_equal(virtio_driver_wait_interrupt(driver), VIRTIO_MMIO_INT_VRING);
	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	assert_int_equal(head, added);
	assert_int_equal(written, 64);
	assert_true(is_filled(driver, VIRTIO_DRIVER_DATA, 64));
}

static void fills_every_segment_of_a_chain(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffers[] = {
		{VIRTIO_DRIVER_DATA, 16, true},
		{VIRTIO_DRIVER_DATA + 0x1000, 255, true},
		{VIRTIO_DRIVER_DATA + 0x2000, 33, true},
	};
	uint16_t head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], buffers, 3);
	virtio_driver_kick(driver, 0);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	assert_int_equal(written, 16 + 255 + 33);
	for (size_t i = 0; i < 3; i++)
		assert_true(is_filled(driver, buffers[i].gpa, buffers[i].length));
}

static void leaves_alone_what_lies_behind_the_buffer(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 17, true};
	uint8_t behind[16], zeros[16] = {0};
	uint16_t head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &buffer, 1);
	virtio_driver_kick(driver, 0);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	ring_read(&driver->rings[0], VIRTIO_DRIVER_DATA + 17, behind, sizeof(behind));
	assert_memory_equal(behind, zeros, sizeof(behind));
}

static void gives_a_huge_buffer_only_its_share(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, MIB, true};
	uint16_t head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &buffer, 1);
	virtio_driver_kick(driver, 0);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	assert_int_equal(written, VIRTIO_RNG_CHAIN_MAX);
}

static void returns_a_chain_without_writable_part_empty(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 64, false};
	uint16_t head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &buffer, 1);
	virtio_driver_kick(driver, 0);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	assert_int_equal(written, 0);
	assert_false(is_filled(driver, VIRTIO_DRIVER_DATA, 64));
}

static void a_turn_fills_some_buffers_and_comes_back(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 64, true};
	struct virtio_device *device = virtio_mmio_device(driver->mmio);

	virtio_driver_start(driver, 0);
	virtio_driver_stop_loop(driver);
	for (unsigned i = 0; i < 16; i++)
		ring_add(&driver->rings[0], &buffer, 1);
	pthread_mutex_lock(&device->lock);
	device->ops->serve_queue(device, 0);
	pthread_mutex_unlock(&device->lock);
	assert_in_range(ring_used_index(&driver->rings[0]), 1, 15);

	virtio_driver_start_loop(driver); /* no kick from the driver is needed */
	for (unsigned i = 0; i < 16; i++) {
		uint16_t head;
		uint32_t written;

		assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
		assert_int_equal(written, 64);
	}
}

static void serves_many_requests_by_event_index(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 16, true};
	struct ring *ring = &driver->rings[0];

	virtio_driver_start(driver, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	for (unsigned i = 0; i < 200; i++) {
		uint16_t before = ring->next_available, head;
		uint32_t written;

		ring_set_used_event(ring, ring->next_used);
		ring_add(ring, &buffer, 1);
		ring_full_barrier();
		if (ring_available_event(ring) == before)
			virtio_driver_kick(driver, 0);
		assert_int_equal(virtio_driver_wait_interrupt(driver), VIRTIO_MMIO_INT_VRING);
		assert_true(ring_take_used(ring, &head, &written));
		assert_int_equal(written, 16);
	}
}

static void serves_what_was_added_before_driver_ok(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, 16, true};
	uint16_t head;
	uint32_t written;

	assert_true(virtio_driver_negotiate(driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	virtio_driver_setup_queue(driver, 0, 4);
	ring_add(&driver->rings[0], &buffer, 1);
	virtio_driver_write(driver, VIRTIO_MMIO_STATUS, 0xf);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
}

static void asks_for_a_reset_after_a_malformed_chain(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer outside = {1ull << 40, 64, true};

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &outside, 1);
	virtio_driver_kick(driver, 0);

	assert_int_equal(virtio_driver_wait_interrupt(driver), VIRTIO_MMIO_INT_CONFIG);
	assert_true(virtio_driver_wait_status(driver, VIRTIO_CONFIG_S_NEEDS_RESET));
}

static void works_again_after_that_reset(void **state)
{
	struct virtio_driver *driver = *state;
	const struct ring_buffer outside = {1ull << 40, 64, true};
	const struct ring_buffer good = {VIRTIO_DRIVER_DATA, 64, true};
	uint16_t head;
	uint32_t written;

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &outside, 1);
	virtio_driver_kick(driver, 0);
	assert_true(virtio_driver_wait_status(driver, VIRTIO_CONFIG_S_NEEDS_RESET));

	virtio_driver_start(driver, 0);
	ring_add(&driver->rings[0], &good, 1);
	virtio_driver_kick(driver, 0);

	assert_true(virtio_driver_wait_used(driver, 0, &head, &written));
	assert_int_equal(written, 64);
}

int main(void)
{
#define RNG_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		RNG_TEST(fills_a_buffer_and_interrupts),
		RNG_TEST(fills_every_segment_of_a_chain),
		RNG_TEST(leaves_alone_what_lies_behind_the_buffer),
		RNG_TEST(gives_a_huge_buffer_only_its_share),
		RNG_TEST(returns_a_chain_without_writable_part_empty),
		RNG_TEST(a_turn_fills_some_buffers_and_comes_back),
		RNG_TEST(serves_many_requests_by_event_index),
		RNG_TEST(serves_what_was_added_before_driver_ok),
		RNG_TEST(asks_for_a_reset_after_a_malformed_chain),
		RNG_TEST(works_again_after_that_reset),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
