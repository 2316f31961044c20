/* Giving chains back, kicks and interrupts wanted or not, and the copying of chains. */
#include "devices/virtqueue.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_ring.h>
#include <sched.h>

#include "virtio_driver.h"
#include "vmm/base/size.h"

#define RING_BASE 0x10000u
#define DATA      0x100000u
#define SIZE      8u

struct fixture {
	struct guest_memory *memory;
	struct ring ring;
	struct virtqueue queue;
	struct virtq_chain chain;
};

static int setup(void **state)
{
	static struct fixture fixture;

	memset(&fixture, 0, sizeof(fixture));
	fixture.memory = ring_memory(4 * MIB);
	ring_init(&fixture.ring, fixture.memory, RING_BASE, SIZE);
	*state = &fixture;
	return ring_connect(&fixture.ring, &fixture.queue, true, true);
}

static int setup_flags(void **state)
{
	struct fixture *fixture;

	if (setup(state))
		return -1;
	fixture = *state;
	return ring_connect(&fixture->ring, &fixture->queue, false, true);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	guest_memory_destroy(fixture->memory);
	return 0;
}

static void add(struct fixture *fixture)
{
	const struct ring_buffer buffer = {DATA, 16, true};

	ring_add(&fixture->ring, &buffer, 1);
}

/* One chain through the queue; the driver takes it back. */
static void cycle(struct fixture *fixture)
{
	uint16_t head;
	uint32_t written;

	add(fixture);
	assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 1);
	assert_int_equal(virtqueue_push(&fixture->queue, fixture->chain.head, 7), 0);
	assert_true(ring_take_used(&fixture->ring, &head, &written));
	assert_int_equal(head, fixture->chain.head);
	assert_int_equal(written, 7);
}

/* As many cycles as move the indices to @index, without looks at interrupts in between. */
static void advance_to(struct fixture *fixture, uint16_t index)
{
	while (ring_used_index(&fixture->ring) != index)
		cycle(fixture);
}

static void push_fills_the_used_ring(void **state)
{
	struct fixture *fixture = *state;
	uint16_t head;
	uint32_t written;

	add(fixture);
	add(fixture);
	virtqueue_pop(&fixture->queue, &fixture->chain);
	virtqueue_pop(&fixture->queue, &fixture->chain);
	assert_int_equal(virtqueue_push(&fixture->queue, 1, 11), 0);
	assert_int_equal(virtqueue_push(&fixture->queue, 0, 22), 0);

	assert_int_equal(ring_used_index(&fixture->ring), 2);
	assert_true(ring_take_used(&fixture->ring, &head, &written));
	assert_int_equal(head, 1);
	assert_int_equal(written, 11);
	assert_true(ring_take_used(&fixture->ring, &head, &written));
	assert_int_equal(head, 0);
	assert_int_equal(written, 22);
	assert_false(ring_take_used(&fixture->ring, &head, &written));
}

static void push_refuses_a_head_that_cannot_be(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(virtqueue_push(&fixture->queue, SIZE, 0), -EINVAL);
	assert_int_equal(ring_used_index(&fixture->ring), 0);
}

/* @count chains through the queue, given back together. */
static int push_together(struct fixture *fixture, uint16_t count)
{
	struct virtq_used used[SIZE];

	for (uint16_t i = 0; i < count; i++) {
		add(fixture);
		assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 1);
		used[i] = (struct virtq_used){fixture->chain.head, 100u + i};
	}
	return virtqueue_push_many(&fixture->queue, used, count);
}

static void pushing_several_fills_the_used_ring_in_their_order(void **state)
{
	struct fixture *fixture = *state;
	uint16_t head;
	uint32_t written;

	advance_to(fixture, SIZE - 1); /* the ring's end is between the first and the second */
	assert_int_equal(push_together(fixture, 3), 0);

	assert_int_equal(ring_used_index(&fixture->ring), SIZE + 2);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(ring_take_used(&fixture->ring, &head, &written));
		assert_int_equal(head, (SIZE - 1 + i) % SIZE);
		assert_int_equal(written, 100 + i);
	}
	assert_false(ring_take_used(&fixture->ring, &head, &written));
}

static void pushing_several_shows_none_if_one_cannot_be(void **state)
{
	struct fixture *fixture = *state;
	const struct virtq_used used[] = {{0, 1}, {SIZE, 1}};

	add(fixture);
	add(fixture);
	virtqueue_pop(&fixture->queue, &fixture->chain);
	virtqueue_pop(&fixture->queue, &fixture->chain);

	assert_int_equal(virtqueue_push_many(&fixture->queue, used, 2), -EINVAL);
	assert_int_equal(ring_used_index(&fixture->ring), 0);
}

static void indices_wrap_at_65536(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < 65536 + 3 * SIZE; i++)
		cycle(fixture);

	assert_int_equal(ring_used_index(&fixture->ring), 3 * SIZE);
	assert_int_equal(fixture->queue.next_available, 3 * SIZE);
}

static void a_full_ring_across_the_wrap_is_no_leap(void **state)
{
	struct fixture *fixture = *state;

	advance_to(fixture, 65535 - 2);
	for (unsigned i = 0; i < SIZE; i++)
		add(fixture);

	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 1);
	assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 0);
}

/* Interrupts with event index. */

static void interrupts_when_the_event_is_reached(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 2); /* when the third has been given back */

	cycle(fixture);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture);
	assert_true(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_when_the_event_is_passed_by_a_batch(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 2);
	for (unsigned i = 0; i < 6; i++)
		cycle(fixture);

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

static void does_not_interrupt_twice_for_the_same(void **state)
{
	struct fixture *fixture = *state;

	cycle(fixture);

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
}

static void does_not_interrupt_when_nothing_was_given_back(void **state)
{
	struct fixture *fixture = *state;

	assert_false(virtqueue_needs_interrupt(&fixture->queue));
}

static void does_not_interrupt_for_an_event_in_the_past(void **state)
{
	struct fixture *fixture = *state;

	advance_to(fixture, 100);
	virtqueue_needs_interrupt(&fixture->queue);
	ring_set_used_event(&fixture->ring, 99);
	cycle(fixture);

	assert_false(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_across_the_wrap(void **state)
{
	struct fixture *fixture = *state;

	advance_to(fixture, 65534);
	virtqueue_needs_interrupt(&fixture->queue);
	ring_set_used_event(&fixture->ring, 0); /* the element with index 0 of the next round */

	cycle(fixture); /* 65535 */
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture); /* 0 */
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture); /* 1: element 0 is there */
	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_for_the_last_element_before_the_wrap(void **state)
{
	struct fixture *fixture = *state;

	advance_to(fixture, 65530);
	virtqueue_needs_interrupt(&fixture->queue);
	ring_set_used_event(&fixture->ring, 65535);
	advance_to(fixture, 65535);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	cycle(fixture);

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_when_a_whole_round_went_by_unlooked(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 30000);
	for (unsigned i = 0; i < 65537; i++)
		cycle(fixture);

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_when_several_pass_the_event_together(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 4);
	push_together(fixture, 4);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	push_together(fixture, 4);
	assert_true(virtqueue_needs_interrupt(&fixture->queue));
	push_together(fixture, 4);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
}

static void interrupts_when_several_leap_over_a_whole_round(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 30000);
	for (unsigned i = 0; i < 65535; i++)
		cycle(fixture);
	push_together(fixture, 3); /* from one behind where it was looked at to two ahead */

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

/* Interrupts by flag. */

static void interrupts_unless_the_flag_forbids(void **state)
{
	struct fixture *fixture = *state;

	cycle(fixture);
	assert_true(virtqueue_needs_interrupt(&fixture->queue));
	ring_set_available_flags(&fixture->ring, VRING_AVAIL_F_NO_INTERRUPT);
	cycle(fixture);
	assert_false(virtqueue_needs_interrupt(&fixture->queue));
	ring_set_available_flags(&fixture->ring, 0);
	cycle(fixture);
	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

static void ignores_the_used_event_without_event_index(void **state)
{
	struct fixture *fixture = *state;

	ring_set_used_event(&fixture->ring, 1000);
	cycle(fixture);

	assert_true(virtqueue_needs_interrupt(&fixture->queue));
}

/* Kicks. */

static void an_empty_ring_asks_for_the_next_kick(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned i = 0; i < 5; i++)
		cycle(fixture);
	assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 0);

	assert_int_equal(ring_available_event(&fixture->ring), 5);
}

static void without_event_index_every_kick_is_wanted(void **state)
{
	struct fixture *fixture = *state;

	cycle(fixture);
	assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 0);

	assert_int_equal(ring_used_flags(&fixture->ring), 0);
}

static void without_event_index_the_used_ring_is_not_overrun(void **state)
{
	struct fixture *fixture = *state;

	virtqueue_pop(&fixture->queue, &fixture->chain);
	cycle(fixture);

	assert_int_equal(ring_available_event(&fixture->ring), 0);
}

#define RACE_ROUNDS 50000u

/* A device thread that pops when kicked, gives back, and "interrupts", by counters instead of fds.
 */
struct race {
	struct fixture *fixture;
	atomic_uint kicks;
	atomic_uint interrupts;
};

static void *race_device(void *opaque)
{
	struct race *race = opaque;
	struct virtqueue *queue = &race->fixture->queue;
	unsigned done = 0, kicks = 0;

	while (done < RACE_ROUNDS) {
		while (atomic_load(&race->kicks) == kicks)
			sched_yield();
		kicks = atomic_load(&race->kicks);
		while (virtqueue_pop(queue, &race->fixture->chain) == 1) {
			virtqueue_push(queue, race->fixture->chain.head, 0);
			done++;
		}
		if (virtqueue_needs_interrupt(queue))
			atomic_fetch_add(&race->interrupts, 1);
	}
	return NULL;
}

/* Kick and interrupt suppression against each other: a lost one would hang this for ever. */
static void loses_no_kick_and_no_interrupt(void **state)
{
	struct race race = {.fixture = *state};
	struct ring *ring = &race.fixture->ring;
	unsigned interrupts = 0;
	pthread_t device;

	assert_int_equal(pthread_create(&device, NULL, race_device, &race), 0);
	for (unsigned i = 0; i < RACE_ROUNDS; i++) {
		uint16_t before = ring->next_available, head;
		uint32_t written;

		add(race.fixture);
		ring_full_barrier();
		if (ring_available_event(ring) == before)
			atomic_fetch_add(&race.kicks, 1);
		ring_set_used_event(ring, ring->next_used);
		ring_full_barrier();
		while (!ring_take_used(ring, &head, &written)) {
			while (atomic_load(&race.interrupts) == interrupts)
				sched_yield();
			interrupts = atomic_load(&race.interrupts);
		}
	}
	pthread_join(device, NULL);
}

/* Chains as bytes. */

static void make_chain(struct fixture *fixture)
{
	const struct ring_buffer buffers[] = {
		{DATA, 4, false},
		{DATA + 0x1000, 6, false},
		{DATA + 0x2000, 3, true},
		{DATA + 0x3000, 5, true},
	};

	ring_write(&fixture->ring, DATA, "abcd", 4);
	ring_write(&fixture->ring, DATA + 0x1000, "efghij", 6);
	ring_add(&fixture->ring, buffers, 4);
	assert_int_equal(virtqueue_pop(&fixture->queue, &fixture->chain), 1);
}

static void reads_across_segments(void **state)
{
	struct fixture *fixture = *state;
	char text[11] = {0};

	make_chain(fixture);

	assert_int_equal(virtq_chain_read(fixture->memory, &fixture->chain, 0, text, 10), 0);
	assert_string_equal(text, "abcdefghij");
	memset(text, 0, sizeof(text));
	assert_int_equal(virtq_chain_read(fixture->memory, &fixture->chain, 3, text, 4), 0);
	assert_string_equal(text, "defg");
	assert_int_equal(virtq_chain_read(fixture->memory, &fixture->chain, 10, text, 0), 0);
}

static void reads_no_more_than_is_readable(void **state)
{
	struct fixture *fixture = *state;
	char text[11] = "untouched";

	make_chain(fixture);

	assert_int_equal(virtq_chain_read(fixture->memory, &fixture->chain, 0, text, 11), -EINVAL);
	assert_int_equal(virtq_chain_read(fixture->memory, &fixture->chain, 10, text, 1), -EINVAL);
	assert_int_equal(
		virtq_chain_read(fixture->memory, &fixture->chain, UINT64_MAX - 1, text, 4),
		-EINVAL);
	assert_string_equal(text, "untouched");
}

static void writes_across_segments(void **state)
{
	struct fixture *fixture = *state;
	char text[6] = {0};

	make_chain(fixture);

	assert_int_equal(virtq_chain_write(fixture->memory, &fixture->chain, 1, "vwxyz", 5), 0);
	ring_read(&fixture->ring, DATA + 0x2000, text, 4);
	assert_memory_equal(text, "\0vw\0", 4);
	ring_read(&fixture->ring, DATA + 0x3000, text, 4);
	assert_memory_equal(text, "xyz\0", 4);
}

static void writes_no_more_than_is_writable(void **state)
{
	struct fixture *fixture = *state;

	make_chain(fixture);

	assert_int_equal(virtq_chain_write(fixture->memory, &fixture->chain, 4, "12345", 5),
			 -EINVAL);
}

static void describes_a_part_as_host_ranges(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[4];
	size_t count = 0;

	make_chain(fixture);

	assert_int_equal(
		virtq_chain_iovec(fixture->memory, &fixture->chain, false, 2, 5, iov, 4, &count),
		0);
	assert_int_equal(count, 2);
	assert_memory_equal(iov[0].iov_base, "cd", 2);
	assert_int_equal(iov[0].iov_len, 2);
	assert_memory_equal(iov[1].iov_base, "efg", 3);
	assert_int_equal(iov[1].iov_len, 3);
	assert_int_equal(
		virtq_chain_iovec(fixture->memory, &fixture->chain, true, 0, 8, iov, 4, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(iov[1].iov_len, 5);
}

static void says_when_the_ranges_do_not_fit(void **state)
{
	struct fixture *fixture = *state;
	struct iovec iov[1];
	size_t count;

	make_chain(fixture);

	assert_int_equal(
		virtq_chain_iovec(fixture->memory, &fixture->chain, false, 0, 10, iov, 1, &count),
		-ENOBUFS);
	assert_int_equal(
		virtq_chain_iovec(fixture->memory, &fixture->chain, true, 0, 9, iov, 1, &count),
		-EINVAL);
}

int main(void)
{
#define EVENT_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define FLAG_TEST(test)  cmocka_unit_test_setup_teardown(test, setup_flags, teardown)
	const struct CMUnitTest tests[] = {
		EVENT_TEST(push_fills_the_used_ring),
		EVENT_TEST(push_refuses_a_head_that_cannot_be),
		EVENT_TEST(pushing_several_fills_the_used_ring_in_their_order),
		EVENT_TEST(pushing_several_shows_none_if_one_cannot_be),
		EVENT_TEST(indices_wrap_at_65536),
		EVENT_TEST(a_full_ring_across_the_wrap_is_no_leap),
		EVENT_TEST(interrupts_when_the_event_is_reached),
		EVENT_TEST(interrupts_when_the_event_is_passed_by_a_batch),
		EVENT_TEST(does_not_interrupt_twice_for_the_same),
		EVENT_TEST(does_not_interrupt_when_nothing_was_given_back),
		EVENT_TEST(does_not_interrupt_for_an_event_in_the_past),
		EVENT_TEST(interrupts_across_the_wrap),
		EVENT_TEST(interrupts_for_the_last_element_before_the_wrap),
		EVENT_TEST(interrupts_when_a_whole_round_went_by_unlooked),
		EVENT_TEST(interrupts_when_several_pass_the_event_together),
		EVENT_TEST(interrupts_when_several_leap_over_a_whole_round),
		FLAG_TEST(interrupts_unless_the_flag_forbids),
		FLAG_TEST(ignores_the_used_event_without_event_index),
		EVENT_TEST(an_empty_ring_asks_for_the_next_kick),
		FLAG_TEST(without_event_index_every_kick_is_wanted),
		FLAG_TEST(without_event_index_the_used_ring_is_not_overrun),
		EVENT_TEST(loses_no_kick_and_no_interrupt),
		EVENT_TEST(reads_across_segments),
		EVENT_TEST(reads_no_more_than_is_readable),
		EVENT_TEST(writes_across_segments),
		EVENT_TEST(writes_no_more_than_is_writable),
		EVENT_TEST(describes_a_part_as_host_ranges),
		EVENT_TEST(says_when_the_ranges_do_not_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
