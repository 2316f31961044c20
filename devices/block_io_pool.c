/* Block I/O by a few threads that make blocking system calls. They start when first needed. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/block_io_backend.h"
#include "devices/deadline.h"
#include "vmm/base/checked.h"
#include "vmm/base/thread.h"

/* As many blocking requests at a time; more would only queue in the host's disk. */
#define THREADS_MAX 4u

#define ZEROS_SIZE 65536ull

struct block_pool {
	struct block_io io;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t work;
	pthread_cond_t finished;
	struct block_request *queue; /* first in, first out */
	struct block_request **queue_tail;
	struct block_request *completed;
	unsigned queued;
	unsigned idle; /* threads that wait for work */
	unsigned threads;
	bool stopping;
	pthread_t thread[THREADS_MAX];
};

static bool is_abandoned(const struct block_io *io)
{
	return atomic_load_explicit(&io->abandoned, memory_order_relaxed);
}

/* What preadv(2) and pwritev2(2) return. */
static ssize_t transfer_slice(int fd, const struct block_request *request)
{
	const struct iovec part = {request->iov->iov_base, BLOCK_SLICE};
	size_t count = block_request_slice(request);
	const struct iovec *iov = count ? request->iov : &part;

	if (count == 0)
		count = 1;
	if (request->op == BLOCK_OP_READ)
		return preadv(fd, iov, (int)count, (off_t)request->offset);
	return pwritev2(fd, iov, (int)count, (off_t)request->offset,
			request->durable ? RWF_DSYNC : 0);
}

static int transfer(const struct block_io *io, struct block_request *request)
{
	while (request->length > 0) {
		ssize_t moved;

		if (is_abandoned(io))
			return -ECANCELED;
		moved = transfer_slice(block_fd(io->block), request);
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved < 0)
			return -errno;
		if (moved == 0)
			return -EIO; /* the file is shorter than it was */
		block_request_advance(request, (uint64_t)moved);
	}
	return 0;
}

static bool is_unsupported(int result)
{
	return result == -EOPNOTSUPP || result == -ENOSYS || result == -ENOTTY ||
	       result == -EINVAL || result == -ENODEV;
}

static int change_range(int fd, int mode, const struct block_request *request)
{
	int result;

	do
		result = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)request->offset,
				   (off_t)request->length);
	while (result && errno == EINTR);
	return result ? -errno : 0;
}

static int device_range(int fd, unsigned long command, const struct block_request *request)
{
	uint64_t range[2] = {request->offset, request->length};

	return ioctl(fd, command, range) ? -errno : 0;
}

static int discard(const struct block *block, const struct block_request *request)
{
	int result;

	if (block_is_device(block))
		result = device_range(block_fd(block), BLKDISCARD, request);
	else
		result = change_range(block_fd(block), FALLOC_FL_PUNCH_HOLE, request);
	return is_unsupported(result) ? -EOPNOTSUPP : result;
}

static int write_zeros(const struct block_io *io, uint64_t offset, uint64_t length)
{
	static const char zeros[ZEROS_SIZE];

	while (length > 0) {
		ssize_t moved;

		if (is_abandoned(io))
			return -ECANCELED;
		moved = pwrite(block_fd(io->block), zeros,
			       length < ZEROS_SIZE ? length : ZEROS_SIZE, (off_t)offset);
		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return moved ? -errno : -EIO;
		offset += (uint64_t)moved;
		length -= (uint64_t)moved;
	}
	return 0;
}

static int write_zeroes(const struct block_io *io, const struct block_request *request)
{
	int fd = block_fd(io->block);
	int result = -EOPNOTSUPP;

	if (request->may_unmap)
		result = change_range(fd, FALLOC_FL_PUNCH_HOLE, request);
	if (is_unsupported(result) && block_is_device(io->block))
		result = device_range(fd, BLKZEROOUT, request);
	else if (is_unsupported(result))
		result = change_range(fd, FALLOC_FL_ZERO_RANGE, request);
	if (is_unsupported(result))
		result = write_zeros(io, request->offset, request->length);
	if (!result && request->durable && fdatasync(fd))
		result = -errno;
	return result;
}

/* Does a whole request at once. 0 or -errno. */
static int execute(const struct block_io *io, struct block_request *request)
{
	if (is_abandoned(io))
		return -ECANCELED;
	switch (request->op) {
	case BLOCK_OP_READ:
	case BLOCK_OP_WRITE:
		return transfer(io, request);
	case BLOCK_OP_FLUSH:
		return fdatasync(block_fd(io->block)) ? -errno : 0;
	case BLOCK_OP_DISCARD:
		return discard(io->block, request);
	case BLOCK_OP_WRITE_ZEROES:
		return write_zeroes(io, request);
	}
	return -EOPNOTSUPP;
}

static void finish(struct block_pool *pool, struct block_request *request, int result)
{
	request->result = result;
	request->next = pool->completed;
	pool->completed = request;
	pthread_cond_signal(&pool->finished);
	eventfd_write(pool->io.event_fd, 1);
}

static struct block_request *take(struct block_pool *pool)
{
	struct block_request *request;

	pool->idle++;
	while (!pool->queue && !pool->stopping)
		pthread_cond_wait(&pool->work, &pool->lock);
	pool->idle--;
	request = pool->queue;
	if (request) {
		pool->queue = request->next;
		if (!pool->queue)
			pool->queue_tail = &pool->queue;
		pool->queued--;
	}
	return request;
}

static void *run_thread(void *arg)
{
	struct block_pool *pool = arg;
	struct block_request *request;

	pthread_mutex_lock(&pool->lock);
	while ((request = take(pool))) {
		int result;

		pthread_mutex_unlock(&pool->lock);
		result = execute(&pool->io, request);
		pthread_mutex_lock(&pool->lock);
		finish(pool, request, result);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static void pool_submit(struct block_io *io, struct block_request *request)
{
	struct block_pool *pool = container_of(io, struct block_pool, io);
	int result = 0;

	pthread_mutex_lock(&pool->lock);
	if (pool->queued >= pool->idle && pool->threads < THREADS_MAX) {
		result = thread_start(&pool->thread[pool->threads], "block-io", run_thread, pool);
		pool->threads += !result;
	}
	if (result && pool->threads == 0) {
		finish(pool, request, result);
	} else {
		*pool->queue_tail = request;
		pool->queue_tail = &request->next;
		pool->queued++;
		pthread_cond_signal(&pool->work);
	}
	pthread_mutex_unlock(&pool->lock);
}

static void pool_kick(struct block_io *io)
{
	(void)io; /* threads start at once */
}

static struct block_request *pool_reap(struct block_io *io)
{
	struct block_pool *pool = container_of(io, struct block_pool, io);
	struct block_request *completed;

	pthread_mutex_lock(&pool->lock);
	completed = pool->completed;
	pool->completed = NULL;
	pthread_mutex_unlock(&pool->lock);
	return completed;
}

static int pool_wait(struct block_io *io, uint64_t deadline)
{
	struct block_pool *pool = container_of(io, struct block_pool, io);
	const struct timespec until = deadline_timespec(deadline);
	int result = 0;

	pthread_mutex_lock(&pool->lock);
	while (!pool->completed && !result)
		result = -pthread_cond_clockwait(&pool->finished, &pool->lock, CLOCK_MONOTONIC,
						 &until);
	pthread_mutex_unlock(&pool->lock);
	return result;
}

static void pool_destroy(struct block_io *io)
{
	struct block_pool *pool = container_of(io, struct block_pool, io);

	pthread_mutex_lock(&pool->lock);
	assert(!pool->queue && !pool->completed);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_cond_destroy(&pool->finished);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static const struct block_io_ops pool_ops = {
	.submit = pool_submit,
	.kick = pool_kick,
	.reap = pool_reap,
	.wait = pool_wait,
	.destroy = pool_destroy,
};

int block_io_pool_create(const struct block_io *base, struct block_io **out)
{
	struct block_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->io = *base;
	pool->io.ops = &pool_ops;
	pool->queue_tail = &pool->queue;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->finished, NULL);
	*out = &pool->io;
	return 0;
}
