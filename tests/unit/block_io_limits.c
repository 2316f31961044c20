/*
 * Disk I/O that takes long or never ends: slices, giving up, waiting with a limit. The system calls
 * below take the place of those that the device calls, so that they can be held up.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "block_io_disk.h"
#include "devices/deadline.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"

#define DISK_SIZE (4 * BLOCK_SLICE)
#define DEPTH     BLOCK_IO_DISK_DEPTH
#define THREADS   4u /* of the pool */
#define NOT_DONE  1

static atomic_bool held;       /* calls do not return */
static atomic_uint calls;      /* transfers begun */
static atomic_bool ring_fails; /* io_uring takes no requests */

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void be_held(void)
{
	atomic_fetch_add(&calls, 1);
	while (atomic_load(&held))
		nap();
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
	be_held();
	return syscall(SYS_preadv, fd, iov, (long)count, offset, 0l);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
	be_held();
	return syscall(SYS_pwrite64, fd, data, length, offset);
}

struct io_uring;
int io_uring_submit(struct io_uring *ring);

int io_uring_submit(struct io_uring *ring)
{
	int (*real)(struct io_uring *) = dlsym(RTLD_NEXT, "io_uring_submit");

	return atomic_load(&ring_fails) ? -EAGAIN : real(ring);
}

struct job {
	struct block_request request;
	struct iovec iov[2];
	int result;
};

struct fixture {
	struct block_io_disk disk;
	struct job jobs[DEPTH];
	uint8_t buffer[DISK_SIZE];
};

/* On tmpfs, which cannot zero a range in place. */
static int setup(void **state)
{
	enum block_io_kind kind = *(const enum block_io_kind *)*state;
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (block_io_disk_open(&f->disk, "/dev/shm", DISK_SIZE, kind))
		return -1;
	atomic_store(&held, false);
	atomic_store(&ring_fails, false);
	atomic_store(&calls, 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	block_io_disk_close(&f->disk);
	free(f);
	return 0;
}

static struct fixture *fixture(void **state)
{
	struct fixture *f = *state;

	if (!f->disk.io)
		skip();
	return f;
}

static void job_done(struct block_request *request, int result)
{
	container_of(request, struct job, request)->result = result;
}

/* All of the disk; transfers in two buffers, the first of which is longer than a slice. */
static void submit(struct fixture *f, unsigned index, enum block_op op)
{
	const size_t first = BLOCK_SLICE + 512;
	struct job *job = &f->jobs[index];

	*job = (struct job){
		.request = {.op = op, .length = DISK_SIZE, .iov_count = 2, .done = job_done},
		.iov = {{f->buffer, first}, {f->buffer + first, DISK_SIZE - first}},
		.result = NOT_DONE,
	};
	job->request.iov = job->iov;
	block_io_submit(f->disk.io, &job->request);
}

static void submit_reads(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		submit(f, i, BLOCK_OP_READ);
	block_io_kick(f->disk.io);
}

/* Waits until @count more requests are complete. */
static void reap(struct fixture *f, unsigned count)
{
	unsigned reaped = 0;

	while (reaped < count) {
		assert_int_equal(block_io_wait(f->disk.io, deadline_in(60 * NS_PER_SEC)), 0);
		reaped += block_io_reap(f->disk.io);
	}
	assert_int_equal(reaped, count);
}

static unsigned count_results(const struct fixture *f, unsigned jobs, int result)
{
	unsigned count = 0;

	for (unsigned i = 0; i < jobs; i++)
		count += f->jobs[i].result == result;
	return count;
}

static void wait_for_calls(unsigned count)
{
	while (atomic_load(&calls) < count)
		nap();
}

static void transfer_is_whole_after_all_its_slices(void **state)
{
	struct fixture *f = fixture(state);
	uint8_t *data = malloc(DISK_SIZE);

	for (size_t i = 0; i < DISK_SIZE; i++)
		data[i] = (uint8_t)(i * 7 + i / 4096);
	memcpy(f->buffer, data, DISK_SIZE);
	submit(f, 0, BLOCK_OP_WRITE);
	block_io_kick(f->disk.io);
	reap(f, 1);
	assert_int_equal(f->jobs[0].result, 0);

	memset(f->buffer, 0, DISK_SIZE);
	submit_reads(f, 1);
	reap(f, 1);
	assert_int_equal(f->jobs[0].result, 0);
	assert_memory_equal(f->buffer, data, DISK_SIZE);
	free(data);
}

static void abandoning_ends_waiting_and_running_requests(void **state)
{
	struct fixture *f = fixture(state);

	atomic_store(&held, true);
	submit_reads(f, DEPTH);
	wait_for_calls(THREADS);
	block_io_abandon(f->disk.io, true);
	atomic_store(&held, false);
	reap(f, DEPTH);

	/* None got beyond its first slice. */
	assert_int_equal(count_results(f, DEPTH, -ECANCELED), DEPTH);
	assert_int_equal(atomic_load(&calls), THREADS);
}

static void abandoning_ends_requests_in_the_ring(void **state)
{
	struct fixture *f = fixture(state);

	submit_reads(f, DEPTH);
	block_io_abandon(f->disk.io, true);
	reap(f, DEPTH);

	assert_int_equal(count_results(f, DEPTH, -ECANCELED), DEPTH);
}

static void abandoning_ends_the_writing_of_zeros(void **state)
{
	struct fixture *f = fixture(state);

	atomic_store(&held, true);
	submit(f, 0, BLOCK_OP_WRITE_ZEROES);
	block_io_kick(f->disk.io);
	/* With io_uring the kernel's refusal has to be noticed first. */
	while (atomic_load(&calls) == 0) {
		block_io_reap(f->disk.io);
		nap();
	}
	block_io_abandon(f->disk.io, true);
	atomic_store(&held, false);
	reap(f, 1);

	assert_int_equal(f->jobs[0].result, -ECANCELED);
	assert_int_equal(atomic_load(&calls), 1);
}

static void requests_after_an_abandoned_time_are_done(void **state)
{
	struct fixture *f = fixture(state);

	submit_reads(f, DEPTH);
	block_io_abandon(f->disk.io, true);
	reap(f, DEPTH);
	block_io_abandon(f->disk.io, false);
	submit_reads(f, DEPTH);
	reap(f, DEPTH);

	assert_int_equal(count_results(f, DEPTH, 0), DEPTH);
}

static void waiting_has_a_limit(void **state)
{
	struct fixture *f = fixture(state);

	atomic_store(&held, true);
	submit(f, 0, BLOCK_OP_READ); /* and no kick, which io_uring would need */
	assert_int_equal(block_io_wait(f->disk.io, deadline_in(20 * NS_PER_MS)), -ETIMEDOUT);

	atomic_store(&held, false);
	block_io_kick(f->disk.io);
	reap(f, 1);
	assert_int_equal(f->jobs[0].result, 0);
}

static void threads_take_over_from_a_ring_that_fails(void **state)
{
	struct fixture *f = fixture(state);

	atomic_store(&ring_fails, true);
	submit_reads(f, DEPTH);
	reap(f, DEPTH);
	assert_int_equal(count_results(f, DEPTH, 0), DEPTH);

	atomic_store(&ring_fails, false);
	submit_reads(f, DEPTH);
	reap(f, DEPTH);
	assert_int_equal(count_results(f, DEPTH, 0), DEPTH);
}

static enum block_io_kind uring = BLOCK_IO_URING;
static enum block_io_kind pool = BLOCK_IO_POOL;

#define WITH(test, kind)                                                                           \
	{                                                                                          \
		.name = #test " (" #kind ")", .test_func = test, .setup_func = setup,              \
		.teardown_func = teardown, .initial_state = &(kind)                                \
	}
#define BOTH(test) WITH(test, uring), WITH(test, pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(transfer_is_whole_after_all_its_slices),
		WITH(abandoning_ends_waiting_and_running_requests, pool),
		WITH(abandoning_ends_requests_in_the_ring, uring),
		BOTH(abandoning_ends_the_writing_of_zeros),
		BOTH(requests_after_an_abandoned_time_are_done),
		BOTH(waiting_has_a_limit),
		WITH(threads_take_over_from_a_ring_that_fails, uring),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
