/* Asynchronous disk I/O: the same behaviour from io_uring and from the thread pool. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "block_io_disk.h"
#include "devices/deadline.h"
#include "vmm/base/checked.h"

#define DISK_SIZE (1u << 20)
#define DEPTH     BLOCK_IO_DISK_DEPTH
#define NOT_DONE  1

struct job {
	struct block_request request;
	struct iovec iov[3];
	int result;
};

struct fixture {
	struct block_io_disk disk;
	uint8_t buffer[65536];
};

static int setup_in(void **state, const char *folder)
{
	enum block_io_kind kind = *(const enum block_io_kind *)*state;
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return block_io_disk_open(&f->disk, folder, DISK_SIZE, kind);
}

static int setup(void **state)
{
	return setup_in(state, "/tmp");
}

/* tmpfs cannot zero a range in place, so the fallback is taken. */
static int setup_tmpfs(void **state)
{
	return setup_in(state, "/dev/shm");
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
	struct job *job = container_of(request, struct job, request);

	assert_int_equal(job->result, NOT_DONE);
	job->result = result;
}

static struct job make_job(enum block_op op, uint64_t offset, uint64_t length, void *buffer)
{
	return (struct job){
		.request =
			{
				.op = op,
				.offset = offset,
				.length = length,
				.iov_count = buffer ? 1 : 0,
				.done = job_done,
			},
		.iov[0] = {buffer, length},
		.result = NOT_DONE,
	};
}

static void submit(struct fixture *f, struct job *job)
{
	job->request.iov = job->iov;
	block_io_submit(f->disk.io, &job->request);
}

static int finish(struct fixture *f, struct job *job)
{
	block_io_kick(f->disk.io);
	while (job->result == NOT_DONE) {
		block_io_wait(f->disk.io, DEADLINE_NEVER);
		block_io_reap(f->disk.io);
	}
	return job->result;
}

static int run(struct fixture *f, enum block_op op, uint64_t offset, uint64_t length, void *buffer)
{
	struct job job = make_job(op, offset, length, buffer);

	submit(f, &job);
	return finish(f, &job);
}

/* Fills the disk with a byte, behind the device's back. */
static void fill_disk(struct fixture *f, uint8_t value)
{
	memset(f->buffer, value, sizeof(f->buffer));
	for (off_t at = 0; at < DISK_SIZE; at += (off_t)sizeof(f->buffer))
		assert_int_equal(pwrite(block_fd(f->disk.block), f->buffer, sizeof(f->buffer), at),
				 sizeof(f->buffer));
	assert_int_equal(fsync(block_fd(f->disk.block)), 0);
}

static void assert_disk_is(struct fixture *f, uint8_t value, off_t offset, size_t length)
{
	assert_true(length <= sizeof(f->buffer));
	assert_int_equal(pread(block_fd(f->disk.block), f->buffer, length, offset), length);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(f->buffer[i], value);
}

static blkcnt_t disk_blocks(struct fixture *f)
{
	struct stat st;

	assert_int_equal(fsync(block_fd(f->disk.block)), 0);
	assert_int_equal(fstat(block_fd(f->disk.block), &st), 0);
	return st.st_blocks;
}

static void write_then_read_gives_the_data(void **state)
{
	struct fixture *f = fixture(state);
	char data[512] = "some data";
	char back[512] = {0};

	assert_int_equal(run(f, BLOCK_OP_WRITE, 4096, sizeof(data), data), 0);
	assert_int_equal(run(f, BLOCK_OP_READ, 4096, sizeof(back), back), 0);
	assert_memory_equal(back, data, sizeof(data));
}

static void several_buffers_are_one_range(void **state)
{
	struct fixture *f = fixture(state);
	char parts[3][512];
	struct job job = make_job(BLOCK_OP_WRITE, 1024, sizeof(parts), parts[0]);

	for (size_t i = 0; i < 3; i++) {
		memset(parts[i], 'a' + (int)i, sizeof(parts[i]));
		job.iov[i] = (struct iovec){parts[i], sizeof(parts[i])};
	}
	job.request.iov_count = 3;
	submit(f, &job);
	assert_int_equal(finish(f, &job), 0);
	assert_disk_is(f, 'a', 1024, 512);
	assert_disk_is(f, 'b', 1536, 512);
	assert_disk_is(f, 'c', 2048, 512);
}

static void durable_write_and_flush_succeed(void **state)
{
	struct fixture *f = fixture(state);
	char data[512] = "durable";
	struct job job = make_job(BLOCK_OP_WRITE, 0, sizeof(data), data);

	job.request.durable = true;
	submit(f, &job);
	assert_int_equal(finish(f, &job), 0);
	assert_int_equal(run(f, BLOCK_OP_FLUSH, 0, 0, NULL), 0);
}

static void many_requests_complete_each_once(void **state)
{
	struct fixture *f = fixture(state);
	struct job jobs[DEPTH];
	char data[DEPTH][512];

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			memset(data[i], (int)(round + i), sizeof(data[i]));
			jobs[i] = make_job(BLOCK_OP_WRITE, i * 512, 512, data[i]);
			submit(f, &jobs[i]);
		}
		for (unsigned i = 0; i < DEPTH; i++)
			assert_int_equal(finish(f, &jobs[i]), 0);
		assert_disk_is(f, (uint8_t)(round + 5), 5 * 512, 512);
	}
}

static void event_fd_tells_of_completions(void **state)
{
	struct fixture *f = fixture(state);
	char data[512];
	struct job job = make_job(BLOCK_OP_READ, 0, sizeof(data), data);
	eventfd_t value;

	submit(f, &job);
	block_io_kick(f->disk.io);
	block_io_wait(f->disk.io, DEADLINE_NEVER);
	/* The pool writes it under the lock that the wait takes, the kernel with the completion. */
	assert_int_equal(eventfd_read(block_io_event_fd(f->disk.io), &value), 0);
	assert_int_equal(block_io_reap(f->disk.io), 1);
	assert_int_equal(job.result, 0);
}

static void discard_frees_the_blocks(void **state)
{
	struct fixture *f = fixture(state);
	blkcnt_t before;

	fill_disk(f, 0x55);
	before = disk_blocks(f);
	assert_int_equal(run(f, BLOCK_OP_DISCARD, 65536, 131072, NULL), 0);
	assert_true(disk_blocks(f) <= before - 131072 / 512);
	assert_disk_is(f, 0x55, 0, 65536);
	assert_disk_is(f, 0x55, 65536 + 131072, 4096);
}

static void write_zeroes_reads_as_zeros(void **state)
{
	struct fixture *f = fixture(state);

	fill_disk(f, 0x55);
	assert_int_equal(run(f, BLOCK_OP_WRITE_ZEROES, 512, 66560 - 512, NULL), 0);
	assert_disk_is(f, 0x55, 0, 512);
	assert_disk_is(f, 0, 512, 65536);
	assert_disk_is(f, 0, 66048, 512);
	assert_disk_is(f, 0x55, 66560, 512);
}

static void write_zeroes_may_leave_a_hole(void **state)
{
	struct fixture *f = fixture(state);
	struct job job = make_job(BLOCK_OP_WRITE_ZEROES, 0, 131072, NULL);
	blkcnt_t before;

	fill_disk(f, 0x55);
	before = disk_blocks(f);
	job.request.may_unmap = true;
	job.request.durable = true;
	submit(f, &job);
	assert_int_equal(finish(f, &job), 0);
	assert_true(disk_blocks(f) < before);
	assert_disk_is(f, 0, 0, 65536);
}

static void read_behind_a_shrunken_end_fails(void **state)
{
	struct fixture *f = fixture(state);
	char data[1024];

	assert_int_equal(truncate(f->disk.path, 512), 0);
	assert_int_equal(run(f, BLOCK_OP_READ, 4096, sizeof(data), data), -EIO);
	/* Half of it is there, half is not. */
	assert_int_equal(run(f, BLOCK_OP_READ, 0, sizeof(data), data), -EIO);
	assert_int_equal(run(f, BLOCK_OP_READ, 0, 512, data), 0);
}

static void write_that_the_host_refuses_fails(void **state)
{
	struct fixture *f = fixture(state);
	char data[512] = {0};
	struct rlimit old, tight;
	int result;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	tight = (struct rlimit){4096, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	result = run(f, BLOCK_OP_WRITE, 8192, sizeof(data), data);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(result, -EFBIG);
}

static void bad_buffer_fails_and_is_not_retried(void **state)
{
	struct fixture *f = fixture(state);

	assert_int_equal(run(f, BLOCK_OP_READ, 0, 512, (void *)4096), -EFAULT);
}

static void destroying_null_is_legal(void **state)
{
	(void)state;
	block_io_destroy(NULL);
}

static enum block_io_kind uring = BLOCK_IO_URING;
static enum block_io_kind pool = BLOCK_IO_POOL;
static enum block_io_kind any = BLOCK_IO_AUTO;

#define WITH(test, set, kind)                                                                      \
	{                                                                                          \
		.name = #test " (" #kind ", " #set ")", .test_func = test, .setup_func = set,      \
		.teardown_func = teardown, .initial_state = &(kind)                                \
	}
#define BOTH(test)       WITH(test, setup, uring), WITH(test, setup, pool)
#define BOTH_TMPFS(test) WITH(test, setup_tmpfs, uring), WITH(test, setup_tmpfs, pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(write_then_read_gives_the_data),
		WITH(write_then_read_gives_the_data, setup, any),
		BOTH(several_buffers_are_one_range),
		BOTH(durable_write_and_flush_succeed),
		BOTH(many_requests_complete_each_once),
		BOTH(event_fd_tells_of_completions),
		BOTH(discard_frees_the_blocks),
		BOTH_TMPFS(discard_frees_the_blocks),
		BOTH(write_zeroes_reads_as_zeros),
		BOTH_TMPFS(write_zeroes_reads_as_zeros),
		BOTH(write_zeroes_may_leave_a_hole),
		BOTH(read_behind_a_shrunken_end_fails),
		BOTH(write_that_the_host_refuses_fails),
		BOTH(bad_buffer_fails_and_is_not_retried),
		cmocka_unit_test(destroying_null_is_legal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
