/*
 * virtio-blk with transfers that do not end. The preadv() below takes the place of the one that the
 * thread pool calls.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/virtio_mmio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "virtio_blk_fixture.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"

#define READS   5u
#define THREADS 4u /* of the pool */

static atomic_bool held;  /* transfers do not end */
static atomic_uint begun; /* transfers begun */

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	atomic_fetch_add(&begun, 1);
	while (atomic_load(&held))
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	return syscall(SYS_preadv, fd, iov, (long)count, offset, 0l);
}

/* The device has begun as many of READS reads as it can at a time. */
static struct fixture *start_and_hold(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},
		{DATA, 512, true},
		{STATUS, 1, true},
	};

	atomic_store(&begun, 0);
	atomic_store(&held, true);
	blk_put_header(f, VIRTIO_BLK_T_IN, 1);
	for (unsigned i = 0; i < READS; i++)
		ring_add(f->ring, buffers, 3);
	virtio_driver_kick(&f->driver, 0);
	while (atomic_load(&begun) < THREADS)
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	return f;
}

static void reset_with_a_limit_gives_up_on_transfers(void **state)
{
	struct fixture *f = start_and_hold(state);

	assert_int_equal(virtio_mmio_reset(f->driver.mmio, 20 * NS_PER_MS), -ETIMEDOUT);
	assert_int_equal(virtio_driver_read(&f->driver, VIRTIO_MMIO_STATUS), 0);

	atomic_store(&held, false);
	assert_int_equal(virtio_mmio_reset(f->driver.mmio, 5 * NS_PER_SEC), 0);
	assert_int_equal(atomic_load(&begun), THREADS); /* what waited has been abandoned */
	assert_int_equal(ring_used_index(f->ring), 0);
}

static void abandoned_requests_are_not_reported(void **state)
{
	struct fixture *f = start_and_hold(state);

	blk_catch_messages(f);
	assert_int_equal(virtio_mmio_reset(f->driver.mmio, 20 * NS_PER_MS), -ETIMEDOUT);
	atomic_store(&held, false);
	virtio_mmio_reset(f->driver.mmio, UINT64_MAX);
	assert_int_equal(blk_caught_messages(f), 0);
}

static void device_works_after_such_a_reset(void **state)
{
	struct fixture *f = start_and_hold(state);

	assert_int_equal(virtio_mmio_reset(f->driver.mmio, NS_PER_MS), -ETIMEDOUT);
	atomic_store(&held, false);
	blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_read(f, 7, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_word_at(f, DATA), 7);
}

static void a_stopped_queue_is_told_as_such_when_its_transfers_have_ended(void **state)
{
	struct fixture *f = start_and_hold(state);
	uint32_t ready_meanwhile;
	uint64_t deadline;

	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_SEL, 0);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_READY, 0);
	ready_meanwhile = virtio_driver_read(&f->driver, VIRTIO_MMIO_QUEUE_READY);
	atomic_store(&held, false);
	assert_int_equal(ready_meanwhile, 1);

	deadline = clock_monotonic_ns() + 5 * NS_PER_SEC;
	while (virtio_driver_read(&f->driver, VIRTIO_MMIO_QUEUE_READY)) {
		assert_true(clock_monotonic_ns() < deadline);
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	assert_int_equal(ring_used_index(f->ring), 0);
	virtio_driver_setup_queue(&f->driver, 0, VIRTIO_DRIVER_QUEUE_SIZE);
	assert_int_equal(blk_read(f, 7, 512), VIRTIO_BLK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BLK_POOL(reset_with_a_limit_gives_up_on_transfers),
		BLK_POOL(abandoned_requests_are_not_reported),
		BLK_POOL(device_works_after_such_a_reset),
		BLK_POOL(a_stopped_queue_is_told_as_such_when_its_transfers_have_ended),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
