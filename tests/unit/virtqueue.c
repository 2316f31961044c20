/* What virtqueue_enable() and virtqueue_pop() accept of a driver that may be hostile. */
#include "devices/virtqueue.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>

#include "virtio_driver.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"

/* RAM with a hole: [0, 4 MiB) and [8 MiB, 12 MiB). */
#define LOW_END    (4 * MIB)
#define HIGH_START (8 * MIB)
#define HIGH_END   (12 * MIB)

#define RING_BASE 0x10000u
#define DATA      0x100000u
#define TABLE     0x200000u
#define SIZE      8u

#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

struct fixture {
	struct guest_memory *memory;
	struct ring ring;
	struct virtqueue queue;
	struct virtq_chain chain;
};

static int setup(void **state)
{
	static const struct guest_memory_region layout[] = {
		{.base = 0, .size = LOW_END},
		{.base = HIGH_START, .size = HIGH_END - HIGH_START},
	};
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	if (guest_memory_create(layout, 2, &fixture.memory, NULL))
		return -1;
	ring_init(&fixture.ring, fixture.memory, RING_BASE, SIZE);
	if (ring_connect(&fixture.ring, &fixture.queue, false, true))
		return -1;
	*state = &fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	guest_memory_destroy(fixture->memory);
	return 0;
}

/* Puts one raw descriptor at index 0 and makes it available. */
static void offer(struct fixture *fixture, uint64_t gpa, uint32_t length, uint16_t flags,
		  uint16_t next)
{
	ring_set_descriptor(&fixture->ring, 0, gpa, length, flags, next);
	ring_publish(&fixture->ring, 0);
}

static int pop(struct fixture *fixture)
{
	return virtqueue_pop(&fixture->queue, &fixture->chain);
}

static void assert_breaks(struct fixture *fixture)
{
	assert_int_equal(pop(fixture), -EINVAL);
	assert_true(fixture->queue.broken);
	/* And stays so, whatever the driver does now. */
	ring_set_available_index(&fixture->ring, 0);
	assert_int_equal(pop(fixture), -EINVAL);
	assert_int_equal(virtqueue_push(&fixture->queue, 0, 0), -EINVAL);
}

/* Enabling. */

static int enable_with(struct fixture *fixture, uint16_t size, gpa_t descriptors, gpa_t available,
		       gpa_t used)
{
	struct virtqueue *queue = &fixture->queue;

	virtqueue_reset(queue);
	queue->size = size;
	queue->descriptors = descriptors;
	queue->available = available;
	queue->used = used;
	return virtqueue_enable(queue);
}

static void enables_every_power_of_two_up_to_the_maximum(void **state)
{
	for (uint16_t size = 1; size <= VIRTQUEUE_SIZE_MAX; size *= 2)
		assert_int_equal(enable_with(*state, size, 0x10000, 0x20000, 0x30000), 0);
}

static void refuses_other_sizes(void **state)
{
	static const uint16_t sizes[] = {0, 3, 6, 255, 257, 512, 32768, 65535};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(enable_with(fixture, sizes[i], 0x10000, 0x20000, 0x30000),
				 -EINVAL);
		assert_false(fixture->queue.ready);
	}
}

static void refuses_a_size_above_what_the_device_offers(void **state)
{
	struct fixture *fixture = *state;

	fixture->queue.size_max = 16;

	assert_int_equal(enable_with(fixture, 16, 0x10000, 0x20000, 0x30000), 0);
	assert_int_equal(enable_with(fixture, 32, 0x10000, 0x20000, 0x30000), -EINVAL);
}

static void refuses_misaligned_rings(void **state)
{
	assert_int_equal(enable_with(*state, 8, 0x10008, 0x20000, 0x30000), -EINVAL);
	assert_int_equal(enable_with(*state, 8, 0x10000, 0x20001, 0x30000), -EINVAL);
	assert_int_equal(enable_with(*state, 8, 0x10000, 0x20000, 0x30002), -EINVAL);
	assert_int_equal(enable_with(*state, 8, 0x10010, 0x20002, 0x30004), 0);
}

static void refuses_rings_outside_of_ram(void **state)
{
	static const gpa_t outside[] = {LOW_END,    HIGH_START - 0x1000, HIGH_END,
					1ull << 40, UINT64_MAX - 15,     UINT64_MAX - 0xfff};

	for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
		gpa_t bad = align_down(outside[i], 16);

		assert_int_equal(enable_with(*state, 8, bad, 0x20000, 0x30000), -EINVAL);
		assert_int_equal(enable_with(*state, 8, 0x10000, bad, 0x30000), -EINVAL);
		assert_int_equal(enable_with(*state, 8, 0x10000, 0x20000, bad), -EINVAL);
	}
}

static void accepts_rings_that_end_with_ram_but_not_one_step_behind(void **state)
{
	const gpa_t descriptors = HIGH_END - 16 * 8;
	const gpa_t available = HIGH_END - (6 + 2 * 8);
	const gpa_t used = align_down(HIGH_END - (6 + 8 * 8), 4);

	assert_int_equal(enable_with(*state, 8, descriptors, 0x20000, 0x30000), 0);
	assert_int_equal(enable_with(*state, 8, descriptors + 16, 0x20000, 0x30000), -EINVAL);
	assert_int_equal(enable_with(*state, 8, 0x10000, available, 0x30000), 0);
	assert_int_equal(enable_with(*state, 8, 0x10000, available + 2, 0x30000), -EINVAL);
	assert_int_equal(enable_with(*state, 8, 0x10000, 0x20000, used), 0);
	assert_int_equal(enable_with(*state, 8, 0x10000, 0x20000, used + 4), -EINVAL);
}

static void gives_nothing_before_it_is_enabled(void **state)
{
	struct fixture *fixture = *state;

	offer(fixture, DATA, 16, 0, 0);
	virtqueue_reset(&fixture->queue);

	assert_int_equal(pop(fixture), 0);
	assert_int_equal(virtqueue_push(&fixture->queue, 0, 0), -EINVAL);
}

/* Well-formed chains. */

static void gives_nothing_while_the_ring_is_empty(void **state)
{
	assert_int_equal(pop(*state), 0);
}

static void gives_a_chain_of_readable_and_writable_segments(void **state)
{
	const struct ring_buffer buffers[] = {
		{DATA, 16, false},
		{DATA + 0x1000, 512, false},
		{DATA + 0x2000, 4096, true},
		{HIGH_START, 1, true},
	};
	struct fixture *fixture = *state;
	uint16_t head = ring_add(&fixture->ring, buffers, 4);

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.head, head);
	assert_int_equal(fixture->chain.readable, 2);
	assert_int_equal(fixture->chain.writable, 2);
	assert_int_equal(fixture->chain.readable_bytes, 528);
	assert_int_equal(fixture->chain.writable_bytes, 4097);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(fixture->chain.segments[i].gpa, buffers[i].gpa);
		assert_int_equal(fixture->chain.segments[i].length, buffers[i].length);
	}
	assert_int_equal(pop(fixture), 0);
}

static void gives_chains_in_the_order_they_were_added(void **state)
{
	struct fixture *fixture = *state;

	for (uint16_t head = SIZE; head-- > 0;) {
		ring_set_descriptor(&fixture->ring, head, DATA, 16, 0, 0);
		ring_publish(&fixture->ring, head);
	}

	for (uint16_t head = SIZE; head-- > 0;) {
		assert_int_equal(pop(fixture), 1);
		assert_int_equal(fixture->chain.head, head);
	}
}

static void gives_a_chain_as_long_as_the_queue(void **state)
{
	struct ring_buffer buffers[SIZE];
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < SIZE; i++)
		buffers[i] = (struct ring_buffer){DATA + 0x1000 * i, 0x1000, true};
	ring_add(&fixture->ring, buffers, SIZE);

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.writable, SIZE);
}

static void gives_the_last_byte_of_ram_but_not_the_next(void **state)
{
	struct fixture *fixture = *state;

	offer(fixture, HIGH_END - 16, 16, WRITE, 0);
	assert_int_equal(pop(fixture), 1);
	offer(fixture, HIGH_END - 16, 17, WRITE, 0);
	assert_breaks(fixture);
}

static void skips_empty_descriptors(void **state)
{
	const struct ring_buffer buffers[] = {
		{DATA, 16, false},
		{1ull << 50, 0, false},
		{UINT64_MAX, 0, true},
		{DATA, 32, true},
	};
	struct fixture *fixture = *state;

	ring_add(&fixture->ring, buffers, 4);

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.readable, 1);
	assert_int_equal(fixture->chain.writable, 1);
	assert_int_equal(fixture->chain.segments[1].length, 32);
}

static void ignores_the_next_index_without_the_flag(void **state)
{
	struct fixture *fixture = *state;

	offer(fixture, DATA, 16, 0, 0xffff);

	assert_int_equal(pop(fixture), 1);
}

static void gives_an_indirect_chain(void **state)
{
	const struct ring_buffer buffers[] = {
		{DATA, 16, false},
		{DATA + 0x1000, 512, true},
		{DATA + 0x2000, 1, true},
	};
	struct fixture *fixture = *state;
	uint16_t head = ring_chain_indirect(&fixture->ring, TABLE, buffers, 3);

	ring_publish(&fixture->ring, head);

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.head, head);
	assert_int_equal(fixture->chain.readable, 1);
	assert_int_equal(fixture->chain.writable, 2);
	assert_int_equal(fixture->chain.segments[2].gpa, DATA + 0x2000);
}

static void gives_an_indirect_chain_longer_than_the_queue(void **state)
{
	struct ring_buffer buffers[VIRTQ_SEGMENTS_MAX];
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < VIRTQ_SEGMENTS_MAX; i++)
		buffers[i] = (struct ring_buffer){DATA + 16 * i, 16, true};
	ring_publish(&fixture->ring,
		     ring_chain_indirect(&fixture->ring, TABLE, buffers, VIRTQ_SEGMENTS_MAX));

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.writable, VIRTQ_SEGMENTS_MAX);
}

static void follows_direct_descriptors_into_an_indirect_table(void **state)
{
	struct fixture *fixture = *state;

	/* The WRITE flag of a descriptor that refers to a table means nothing. */
	ring_set_descriptor(&fixture->ring, 1, TABLE, 16, INDIRECT | WRITE, 0);
	ring_set_indirect(&fixture->ring, TABLE, 0, DATA, 4, 0, 0);
	offer(fixture, DATA, 16, NEXT, 1);

	assert_int_equal(pop(fixture), 1);
	assert_int_equal(fixture->chain.readable, 2);
	assert_int_equal(fixture->chain.readable_bytes, 20);
}

/* Malformed chains. */

static void breaks_on_a_loop_of_two(void **state)
{
	struct fixture *fixture = *state;

	ring_set_descriptor(&fixture->ring, 1, DATA, 16, NEXT, 0);
	offer(fixture, DATA, 16, NEXT, 1);
	assert_breaks(fixture);
}

static void breaks_on_a_descriptor_that_follows_itself(void **state)
{
	offer(*state, DATA, 0, NEXT, 0); /* of empty ones, so that no other bound ends it */
	assert_breaks(*state);
}

static void breaks_on_a_next_index_outside_of_the_table(void **state)
{
	offer(*state, DATA, 16, NEXT, SIZE);
	assert_breaks(*state);
}

static void breaks_on_a_head_outside_of_the_table(void **state)
{
	struct fixture *fixture = *state;

	ring_publish(&fixture->ring, SIZE);
	assert_breaks(fixture);
}

static void breaks_on_an_address_outside_of_ram(void **state)
{
	offer(*state, 1ull << 40, 16, 0, 0);
	assert_breaks(*state);
}

static void breaks_on_an_address_that_wraps(void **state)
{
	offer(*state, UINT64_MAX - 7, 16, 0, 0);
	assert_breaks(*state);
}

static void breaks_on_a_segment_that_reaches_into_the_hole(void **state)
{
	offer(*state, LOW_END - 16, 17, 0, 0);
	assert_breaks(*state);
}

static void breaks_on_a_segment_that_spans_the_hole(void **state)
{
	offer(*state, LOW_END - 0x1000, HIGH_START - LOW_END + 0x2000, 0, 0);
	assert_breaks(*state);
}

static void breaks_on_readable_behind_writable(void **state)
{
	struct fixture *fixture = *state;

	ring_set_descriptor(&fixture->ring, 1, DATA, 16, 0, 0);
	offer(fixture, DATA, 16, WRITE | NEXT, 1);
	assert_breaks(fixture);
}

static void breaks_when_the_index_leaps_over_the_queue(void **state)
{
	struct fixture *fixture = *state;

	ring_set_available_index(&fixture->ring, SIZE + 1);
	assert_breaks(fixture);
}

static void breaks_when_the_index_goes_backwards(void **state)
{
	struct fixture *fixture = *state;

	ring_set_available_index(&fixture->ring, 0xffff);
	assert_breaks(fixture);
}

static void breaks_when_more_is_under_way_than_the_queue_holds(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < SIZE; i++) {
		offer(fixture, DATA, 16, 0, 0);
		assert_int_equal(pop(fixture), 1);
	}
	offer(fixture, DATA, 16, 0, 0);
	assert_breaks(fixture);
}

/* Malformed indirect tables. */

static void breaks_on_an_indirect_table_that_was_not_negotiated(void **state)
{
	struct fixture *fixture = *state;

	fixture->queue.indirect = false;
	offer(fixture, TABLE, 16, INDIRECT, 0);
	assert_breaks(fixture);
}

static void breaks_on_indirect_with_next(void **state)
{
	offer(*state, TABLE, 16, INDIRECT | NEXT, 1);
	assert_breaks(*state);
}

static void breaks_on_a_table_inside_a_table(void **state)
{
	struct fixture *fixture = *state;

	ring_set_indirect(&fixture->ring, TABLE, 0, TABLE + 0x1000, 16, INDIRECT, 0);
	offer(fixture, TABLE, 16, INDIRECT, 0);
	assert_breaks(fixture);
}

static void breaks_on_an_empty_table(void **state)
{
	offer(*state, TABLE, 0, INDIRECT, 0);
	assert_breaks(*state);
}

static void breaks_on_a_table_of_odd_length(void **state)
{
	offer(*state, TABLE, 24, INDIRECT, 0);
	assert_breaks(*state);
}

static void breaks_on_a_table_that_is_too_long(void **state)
{
	offer(*state, TABLE, 16 * (VIRTQ_SEGMENTS_MAX + 1), INDIRECT, 0);
	assert_breaks(*state);
}

static void breaks_on_a_table_outside_of_ram(void **state)
{
	offer(*state, LOW_END - 16, 32, INDIRECT, 0);
	assert_breaks(*state);
}

static void breaks_on_a_loop_in_a_table(void **state)
{
	struct fixture *fixture = *state;

	ring_set_indirect(&fixture->ring, TABLE, 0, DATA, 0, NEXT, 1);
	ring_set_indirect(&fixture->ring, TABLE, 1, DATA, 0, NEXT, 0);
	offer(fixture, TABLE, 32, INDIRECT, 0);
	assert_breaks(fixture);
}

static void breaks_on_a_next_index_outside_of_its_table(void **state)
{
	struct fixture *fixture = *state;

	ring_set_indirect(&fixture->ring, TABLE, 0, DATA, 16, NEXT, 1);
	ring_set_indirect(&fixture->ring, TABLE, 1, DATA, 16, 0, 0); /* but the table ends before */
	offer(fixture, TABLE, 16, INDIRECT, 0);
	assert_breaks(fixture);
}

static void breaks_on_more_segments_than_a_chain_may_have(void **state)
{
	struct ring_buffer buffers[VIRTQ_SEGMENTS_MAX];
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < VIRTQ_SEGMENTS_MAX; i++)
		buffers[i] = (struct ring_buffer){DATA, 16, false};
	ring_chain_indirect(&fixture->ring, TABLE, buffers, VIRTQ_SEGMENTS_MAX);
	ring_set_descriptor(&fixture->ring, 1, TABLE, 16 * VIRTQ_SEGMENTS_MAX, INDIRECT, 0);
	offer(fixture, DATA, 16, NEXT, 1); /* one before the full table */
	assert_breaks(fixture);
}

static void a_reset_mends_a_broken_queue(void **state)
{
	struct fixture *fixture = *state;

	offer(fixture, 1ull << 40, 16, 0, 0);
	assert_int_equal(pop(fixture), -EINVAL);

	ring_init(&fixture->ring, fixture->memory, RING_BASE, SIZE);
	assert_int_equal(enable_with(fixture, SIZE, fixture->ring.descriptors,
				     fixture->ring.available, fixture->ring.used),
			 0);
	offer(fixture, DATA, 16, 0, 0);
	assert_int_equal(pop(fixture), 1);
}

int main(void)
{
#define QUEUE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		QUEUE_TEST(enables_every_power_of_two_up_to_the_maximum),
		QUEUE_TEST(refuses_other_sizes),
		QUEUE_TEST(refuses_a_size_above_what_the_device_offers),
		QUEUE_TEST(refuses_misaligned_rings),
		QUEUE_TEST(refuses_rings_outside_of_ram),
		QUEUE_TEST(accepts_rings_that_end_with_ram_but_not_one_step_behind),
		QUEUE_TEST(gives_nothing_before_it_is_enabled),
		QUEUE_TEST(gives_nothing_while_the_ring_is_empty),
		QUEUE_TEST(gives_a_chain_of_readable_and_writable_segments),
		QUEUE_TEST(gives_chains_in_the_order_they_were_added),
		QUEUE_TEST(gives_a_chain_as_long_as_the_queue),
		QUEUE_TEST(gives_the_last_byte_of_ram_but_not_the_next),
		QUEUE_TEST(skips_empty_descriptors),
		QUEUE_TEST(ignores_the_next_index_without_the_flag),
		QUEUE_TEST(gives_an_indirect_chain),
		QUEUE_TEST(gives_an_indirect_chain_longer_than_the_queue),
		QUEUE_TEST(follows_direct_descriptors_into_an_indirect_table),
		QUEUE_TEST(breaks_on_a_loop_of_two),
		QUEUE_TEST(breaks_on_a_descriptor_that_follows_itself),
		QUEUE_TEST(breaks_on_a_next_index_outside_of_the_table),
		QUEUE_TEST(breaks_on_a_head_outside_of_the_table),
		QUEUE_TEST(breaks_on_an_address_outside_of_ram),
		QUEUE_TEST(breaks_on_an_address_that_wraps),
		QUEUE_TEST(breaks_on_a_segment_that_reaches_into_the_hole),
		QUEUE_TEST(breaks_on_a_segment_that_spans_the_hole),
		QUEUE_TEST(breaks_on_readable_behind_writable),
		QUEUE_TEST(breaks_when_the_index_leaps_over_the_queue),
		QUEUE_TEST(breaks_when_the_index_goes_backwards),
		QUEUE_TEST(breaks_when_more_is_under_way_than_the_queue_holds),
		QUEUE_TEST(breaks_on_an_indirect_table_that_was_not_negotiated),
		QUEUE_TEST(breaks_on_indirect_with_next),
		QUEUE_TEST(breaks_on_a_table_inside_a_table),
		QUEUE_TEST(breaks_on_an_empty_table),
		QUEUE_TEST(breaks_on_a_table_of_odd_length),
		QUEUE_TEST(breaks_on_a_table_that_is_too_long),
		QUEUE_TEST(breaks_on_a_table_outside_of_ram),
		QUEUE_TEST(breaks_on_a_loop_in_a_table),
		QUEUE_TEST(breaks_on_a_next_index_outside_of_its_table),
		QUEUE_TEST(breaks_on_more_segments_than_a_chain_may_have),
		QUEUE_TEST(a_reset_mends_a_broken_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
