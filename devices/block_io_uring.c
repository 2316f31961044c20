/*
 * Block I/O through io_uring. What the ring cannot do (ioctls of block devices) or the file system
 * refuses (FALLOC_FL_ZERO_RANGE, say) is left to a thread pool, which knows the fallbacks; and so is
 * everything once the kernel has stopped to take requests.
 *
 * A request moves from the ring to the pool at most, never back; block_io_wait() relies on that.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/block_io_backend.h"
#include "devices/deadline.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/ring.h"

struct block_uring {
	struct block_io io;
	struct io_uring ring;
	unsigned in_ring;                  /* requests that the ring has, submitted or not */
	struct block_request *unsubmitted; /* first in, first out */
	struct block_request **unsubmitted_tail;
	bool dead; /* the kernel takes no more requests; what it has may still complete */
	struct block_io *pool;
};

/* How long the kernel may be short of memory, say, before the pool takes over. */
#define SUBMIT_PATIENCE_NS NS_PER_SEC

/* A slice of a read or write. */
static void prepare_transfer(struct io_uring_sqe *sqe, int fd, const struct block_request *request)
{
	unsigned count = (unsigned)block_request_slice(request);
	const struct iovec *iov = request->iov;

	if (request->op == BLOCK_OP_READ && count)
		io_uring_prep_readv(sqe, fd, iov, count, request->offset);
	else if (request->op == BLOCK_OP_READ)
		io_uring_prep_read(sqe, fd, iov->iov_base, BLOCK_SLICE, request->offset);
	else if (count)
		io_uring_prep_writev(sqe, fd, iov, count, request->offset);
	else
		io_uring_prep_write(sqe, fd, iov->iov_base, BLOCK_SLICE, request->offset);
	if (request->op == BLOCK_OP_WRITE && request->durable)
		sqe->rw_flags = RWF_DSYNC;
}

static void prepare(struct io_uring_sqe *sqe, int fd, const struct block_request *request)
{
	int mode = FALLOC_FL_KEEP_SIZE;

	switch (request->op) {
	case BLOCK_OP_READ:
	case BLOCK_OP_WRITE:
		prepare_transfer(sqe, fd, request);
		break;
	case BLOCK_OP_FLUSH:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case BLOCK_OP_DISCARD:
	case BLOCK_OP_WRITE_ZEROES:
		if (request->op == BLOCK_OP_DISCARD || request->may_unmap)
			mode |= FALLOC_FL_PUNCH_HOLE;
		else
			mode |= FALLOC_FL_ZERO_RANGE;
		io_uring_prep_fallocate(sqe, fd, mode, (off_t)request->offset,
					(off_t)request->length);
		break;
	}
}

/* Never fails: the ring has room for every request that may be under way. */
static void queue(struct block_uring *uring, struct block_request *request)
{
	struct io_uring_sqe *sqe;

	if (uring->dead) {
		block_io_submit(uring->pool, request);
		return;
	}
	sqe = io_uring_get_sqe(&uring->ring);
	assert(sqe);
	prepare(sqe, block_fd(uring->io.block), request);
	io_uring_sqe_set_data(sqe, request);
	request->next = NULL;
	*uring->unsubmitted_tail = request;
	uring->unsubmitted_tail = &request->next;
	uring->in_ring++;
}

/* Takes the first of those that the kernel does not have yet off their list; NULL: none. */
static struct block_request *pop_unsubmitted(struct block_uring *uring)
{
	struct block_request *request = uring->unsubmitted;

	if (request) {
		uring->unsubmitted = request->next;
		if (!uring->unsubmitted)
			uring->unsubmitted_tail = &uring->unsubmitted;
	}
	return request;
}

static bool is_range_op(const struct block_request *request)
{
	return request->op == BLOCK_OP_DISCARD || request->op == BLOCK_OP_WRITE_ZEROES;
}

static void uring_submit(struct block_io *io, struct block_request *request)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	bool needs_sync = request->op == BLOCK_OP_WRITE_ZEROES && request->durable;

	if (is_range_op(request) && (block_is_device(io->block) || needs_sync))
		block_io_submit(uring->pool, request);
	else
		queue(uring, request);
}

/* Nothing is submitted from now on, for the ring still has the entries that the pool gets now. */
static void give_up_ring(struct block_uring *uring, int result)
{
	struct block_request *request;

	log_warning("disk %s: io_uring_submit: %s; using threads instead",
		    block_path(uring->io.block), strerrordesc_np(-result));
	uring->dead = true;
	while ((request = pop_unsubmitted(uring))) {
		uring->in_ring--;
		block_io_submit(uring->pool, request);
	}
}

static void uring_kick(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	const struct timespec pause = {.tv_nsec = (long)NS_PER_MS};
	uint64_t deadline = 0;

	while (uring->unsubmitted) {
		int result = io_uring_submit(&uring->ring);

		for (int i = 0; i < result; i++)
			pop_unsubmitted(uring);
		if (result > 0)
			continue;
		if (deadline == 0)
			deadline = deadline_in(SUBMIT_PATIENCE_NS);
		if (deadline_is_over(deadline))
			give_up_ring(uring, result);
		else
			nanosleep(&pause, NULL);
	}
}

/* Tells the kernel to drop what has not begun. Kernels before 5.19 refuse, and finish it instead. */
static void cancel_all(struct block_uring *uring)
{
	struct io_uring_sqe *sqe;
	int result;

	uring_kick(&uring->io);
	if (uring->dead || uring->in_ring == 0)
		return;
	sqe = io_uring_get_sqe(&uring->ring);
	assert(sqe);
	io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
	io_uring_sqe_set_data(sqe, NULL);
	result = io_uring_submit(&uring->ring);
	if (result != 1) /* it must not happen later, to others */
		give_up_ring(uring, result);
}

static void uring_abandon(struct block_io *io, bool abandon)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);

	block_io_abandon(uring->pool, abandon);
	if (abandon)
		cancel_all(uring);
}

/* @request has more to do. True: it is complete nevertheless. */
static bool go_on(struct block_uring *uring, struct block_request *request)
{
	if (atomic_load(&uring->io.abandoned)) {
		request->result = -ECANCELED;
		return true;
	}
	queue(uring, request);
	return false;
}

/* The ring is done with @request. True: the request is complete, with its result set. */
static bool settle(struct block_uring *uring, struct block_request *request, int result)
{
	if (is_range_op(request) && result && result != -EIO && result != -ENOSPC) {
		block_io_submit(uring->pool, request);
		return false;
	}
	if (request->op != BLOCK_OP_READ && request->op != BLOCK_OP_WRITE) {
		request->result = result;
		return true;
	}
	if (result == -EINTR || result == -EAGAIN)
		return go_on(uring, request);
	if (result == 0 && request->length > 0)
		result = -EIO; /* the file is shorter than it was */
	if (result > 0) {
		block_request_advance(request, (uint64_t)result);
		if (request->length > 0)
			return go_on(uring, request);
		result = 0;
	}
	request->result = result;
	return true;
}

static struct block_request *uring_reap(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	struct block_request *completed = uring->pool->ops->reap(uring->pool);
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		struct block_request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		if (!request)
			continue; /* cancel_all()'s */
		uring->in_ring--;
		if (settle(uring, request, result)) {
			request->next = completed;
			completed = request;
		}
	}
	uring_kick(io);
	return completed;
}

static int poll_timeout_ms(uint64_t deadline)
{
	uint64_t now = clock_monotonic_ns();
	uint64_t ms;

	if (deadline == DEADLINE_NEVER)
		return -1;
	ms = deadline > now ? (deadline - now + NS_PER_MS - 1) / NS_PER_MS : 0;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

static int uring_wait(struct block_io *io, uint64_t deadline)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	struct pollfd completion = {.fd = uring->ring.ring_fd, .events = POLLIN};

	if (uring->in_ring == 0)
		return block_io_wait(uring->pool, deadline);
	/* EINTR or the like: the caller looks and comes again. */
	if (poll(&completion, 1, poll_timeout_ms(deadline)) == 0 && deadline_is_over(deadline))
		return -ETIMEDOUT;
	return 0;
}

static void uring_destroy(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);

	assert(uring->in_ring == 0);
	uring->pool->ops->destroy(uring->pool);
	io_uring_queue_exit(&uring->ring);
	free(uring);
}

static const struct block_io_ops uring_ops = {
	.submit = uring_submit,
	.kick = uring_kick,
	.reap = uring_reap,
	.wait = uring_wait,
	.abandon = uring_abandon,
	.destroy = uring_destroy,
};

/* Kernels before 5.6 have rings that lack some of them. */
static const uint8_t operations[] = {
	IORING_OP_READV, IORING_OP_WRITEV,    IORING_OP_READ,         IORING_OP_WRITE,
	IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_ASYNC_CANCEL,
};

int block_io_uring_create(const struct block_io *base, unsigned depth, struct block_io **out)
{
	struct block_uring *uring = calloc(1, sizeof(*uring));
	int result;

	if (!uring)
		return -ENOMEM;
	uring->io = *base;
	uring->io.ops = &uring_ops;
	uring->unsubmitted_tail = &uring->unsubmitted;
	result = ring_create(&uring->ring, depth);
	if (result)
		goto free_uring;
	result = ring_check(&uring->ring, operations, ARRAY_SIZE(operations));
	if (result)
		goto exit_ring;
	result = io_uring_register_eventfd(&uring->ring, base->event_fd);
	if (result)
		goto exit_ring;
	result = ring_start(&uring->ring, operations, ARRAY_SIZE(operations));
	if (result)
		goto exit_ring;
	result = block_io_pool_create(base, &uring->pool);
	if (result)
		goto exit_ring;
	*out = &uring->io;
	return 0;

exit_ring:
	io_uring_queue_exit(&uring->ring);
free_uring:
	free(uring);
	return result;
}
