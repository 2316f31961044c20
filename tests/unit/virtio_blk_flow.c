/* virtio-blk: kicks, the I/O gate, and resets with requests under way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "memory/io_gate.h"
#include "virtio_blk_fixture.h"
#include "vmm/base/log.h"

static void serves_many_requests_by_event_index(void **state)
{
	struct fixture *f =
		blk_start(state, ALL_FEATURES | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},
		{DATA, 512, true},
		{STATUS, 1, true},
	};

	for (unsigned i = 0; i < 200; i++) {
		uint16_t before = f->ring->next_available;

		blk_put_header(f, VIRTIO_BLK_T_IN, i);
		ring_set_used_event(f->ring, f->ring->next_used);
		ring_add(f->ring, buffers, 3);
		ring_full_barrier();
		if (ring_available_event(f->ring) == before)
			virtio_driver_kick(&f->driver, 0);
		assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_VRING);
		assert_int_equal(blk_take_status(f, STATUS), VIRTIO_BLK_S_OK);
		assert_int_equal(blk_word_at(f, DATA), i);
	}
}

/* Reads at a time; each has its own data and status byte. */
#define READS 5u

static void add_reads(struct fixture *f)
{
	blk_put_header(f, VIRTIO_BLK_T_IN, 0);
	for (unsigned i = 0; i < READS; i++) {
		const struct ring_buffer buffers[] = {
			{HEADER, 16, false},
			{DATA + i * 65536, 65536, true},
			{STATUS + i, 1, true},
		};

		ring_add(f->ring, buffers, 3);
	}
}

static void assert_reads_succeed(struct fixture *f)
{
	uint8_t status[READS];

	for (unsigned i = 0; i < READS; i++)
		blk_take_status(f, HEADER);
	ring_read(f->ring, STATUS, status, sizeof(status));
	for (unsigned i = 0; i < READS; i++)
		assert_int_equal(status[i], VIRTIO_BLK_S_OK);
}

static void closed_gate_holds_requests_back(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	io_gate_close(gate);
	add_reads(f);
	virtio_driver_kick(&f->driver, 0);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	assert_int_equal(ring_used_index(f->ring), 0);

	io_gate_open(gate);
	assert_reads_succeed(f);
}

static void gate_closes_while_requests_keep_coming(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	for (unsigned round = 0; round < 100; round++) {
		add_reads(f);
		virtio_driver_kick(&f->driver, 0);
		io_gate_close(gate);
		assert_int_equal(io_gate_wait_drained(gate, 10000000000ull), 0);
		io_gate_open(gate);
		assert_reads_succeed(f);
	}
}

/* For a flush: another header than that of other requests. */
static void add_flush(struct fixture *f)
{
	const struct ring_buffer flush[] = {{HEADER + 16, 16, false}, {STATUS + READS, 1, true}};
	const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};

	ring_write(f->ring, HEADER + 16, &header, sizeof(header));
	ring_add(f->ring, flush, 2);
}

/* Takes the requests on this thread, so that they are under way for certain. */
static void serve_here(struct fixture *f)
{
	pthread_mutex_lock(&f->device->lock);
	f->device->ops->serve_queue(f->device, 0);
	pthread_mutex_unlock(&f->device->lock);
}

static void gate_does_not_wait_for_what_touches_no_guest_memory(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	virtio_driver_stop_loop(&f->driver); /* nobody sees the flush complete */
	add_flush(f);
	serve_here(f);
	io_gate_close(gate);
	io_gate_open(gate);
	assert_int_equal(ring_used_index(f->ring), 0);
}

static void assert_at_rest(struct fixture *f)
{
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	assert_int_equal(virtio_driver_read(&f->driver, VIRTIO_MMIO_STATUS), 0);
	io_gate_close(gate);
	assert_int_equal(io_gate_wait_drained(gate, 10000000000ull), 0); /* none is still counted */
	io_gate_open(gate);
}

static void reset_waits_for_requests(void **state)
{
	struct fixture *f = *state;

	for (unsigned round = 0; round < 50; round++) {
		blk_start(state, ALL_FEATURES);
		add_reads(f);
		serve_here(f);
		virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
		assert_at_rest(f);
	}
	blk_start(state, ALL_FEATURES);
	assert_int_equal(blk_read(f, 2, 512), VIRTIO_BLK_S_OK);
}

static void reset_works_when_the_loop_does_not_run(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	serve_here(f);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
	assert_at_rest(f);
}

static void serve_and_reset(void *opaque, uint32_t events)
{
	struct fixture *f = opaque;

	(void)events;
	serve_here(f);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
	event_loop_stop(f->driver.loop);
}

static void reset_works_on_the_loops_thread(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	assert_int_equal(event_loop_add(f->driver.loop, fd, EPOLLIN, serve_and_reset, f, NULL), 0);
	assert_int_equal(event_loop_run(f->driver.loop), 0);
	assert_at_rest(f);
	close(fd);
}

static void *serve_and_end(void *opaque)
{
	serve_here(opaque);
	return NULL;
}

/* The kernel cancels what a thread that ends has left in an io_uring. That is no error. */
static void reset_finds_requests_of_a_thread_that_ended(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	pthread_t thread;

	virtio_driver_stop_loop(&f->driver);
	blk_catch_messages(f);
	for (unsigned round = 0; round < 20; round++) {
		virtio_driver_start(&f->driver, ALL_FEATURES);
		add_flush(f);
		for (unsigned i = 0; i < 3; i++)
			ring_publish(f->ring, 0); /* the same flush, four times in all */
		assert_int_equal(pthread_create(&thread, NULL, serve_and_end, f), 0);
		pthread_join(thread, NULL);
		virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
		assert_at_rest(f);
	}
	assert_int_equal(blk_caught_messages(f), 0);
}

static void driver_rebuilds_a_queue_with_requests_under_way(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const uint8_t untouched[READS] = {NO_STATUS, NO_STATUS, NO_STATUS, NO_STATUS, NO_STATUS};
	uint8_t status[READS];

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	ring_write(f->ring, STATUS, untouched, sizeof(untouched));
	serve_here(f);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_READY, 0);
	virtio_driver_setup_queue(&f->driver, 0, 16);
	virtio_driver_start_loop(&f->driver);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);

	/* What the driver has forgotten is not given back. */
	assert_int_equal(ring_used_index(f->ring), 0);
	ring_read(f->ring, STATUS, status, sizeof(status));
	assert_memory_equal(status, untouched, sizeof(status));
	assert_int_equal(blk_read(f, 3, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_word_at(f, DATA), 3);
}

static void destruction_waits_for_requests(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	serve_here(f);
	/* The blk_teardown destroys the device; the I/O gate asserts that nothing is left. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BLK_BOTH(serves_many_requests_by_event_index),
		BLK_BOTH(closed_gate_holds_requests_back),
		BLK_BOTH(gate_closes_while_requests_keep_coming),
		BLK_BOTH(gate_does_not_wait_for_what_touches_no_guest_memory),
		BLK_BOTH(reset_waits_for_requests),
		BLK_BOTH(reset_works_when_the_loop_does_not_run),
		BLK_BOTH(reset_works_on_the_loops_thread),
		BLK_BOTH(reset_finds_requests_of_a_thread_that_ended),
		BLK_BOTH(driver_rebuilds_a_queue_with_requests_under_way),
		BLK_BOTH(destruction_waits_for_requests),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
