/*
 * Block I/O through io_uring. What the ring cannot do (ioctls of block devices) or the file system
 * refuses (FALLOC_FL_ZERO_RANGE, say) is left to a helper thread, which knows the fallbacks.
 *
 * A request moves from the ring to the helper at most, never back; block_io_wait() relies on that.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/block_io_backend.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"

struct block_uring {
	struct block_io io;
	struct io_uring ring;
	unsigned in_ring; /* requests that the ring has, submitted or not */
	struct block_io *helper;
};

static void prepare(struct io_uring_sqe *sqe, int fd, const struct block_request *request)
{
	int mode = FALLOC_FL_KEEP_SIZE;

	switch (request->op) {
	case BLOCK_OP_READ:
		io_uring_prep_readv(sqe, fd, request->iov, (unsigned)request->iov_count,
				    request->offset);
		break;
	case BLOCK_OP_WRITE:
		io_uring_prep_writev2(sqe, fd, request->iov, (unsigned)request->iov_count,
				      request->offset, request->durable ? RWF_DSYNC : 0);
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
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	assert(sqe);
	prepare(sqe, block_fd(uring->io.block), request);
	io_uring_sqe_set_data(sqe, request);
	uring->in_ring++;
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
		block_io_submit(uring->helper, request);
	else
		queue(uring, request);
}

static void uring_kick(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	static struct log_ratelimit limit;

	while (io_uring_sq_ready(&uring->ring) > 0) {
		const struct timespec pause = {.tv_nsec = (long)NS_PER_MS};
		int result = io_uring_submit(&uring->ring);

		if (result > 0)
			continue;
		/* The host is short of memory for the moment. The requests stay in the ring. */
		if (log_ratelimit_pass(&limit))
			log_warning("disk %s: io_uring_submit: %s; trying again",
				    block_path(io->block), strerrordesc_np(-result));
		nanosleep(&pause, NULL);
	}
}

/* The ring is done with @request. True: the request is complete, with its result set. */
static bool settle(struct block_uring *uring, struct block_request *request, int result)
{
	if (is_range_op(request) && result && result != -EIO && result != -ENOSPC) {
		block_io_submit(uring->helper, request);
		return false;
	}
	if (request->op != BLOCK_OP_READ && request->op != BLOCK_OP_WRITE) {
		request->result = result;
		return true;
	}
	if (result == -EINTR || result == -EAGAIN) {
		queue(uring, request);
		return false;
	}
	if (result == 0 && request->length > 0)
		result = -EIO; /* the file is shorter than it was */
	if (result > 0) {
		block_request_advance(request, (uint64_t)result);
		if (request->length > 0) {
			queue(uring, request);
			return false;
		}
		result = 0;
	}
	request->result = result;
	return true;
}

static struct block_request *uring_reap(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	struct block_request *completed = uring->helper->ops->reap(uring->helper);
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
		struct block_request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&uring->ring, cqe);
		uring->in_ring--;
		if (settle(uring, request, result)) {
			request->next = completed;
			completed = request;
		}
	}
	uring_kick(io);
	return completed;
}

static void uring_wait(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);
	struct io_uring_cqe *cqe;

	/* EINTR or the like: the caller looks and comes again. */
	if (uring->in_ring > 0)
		io_uring_wait_cqe(&uring->ring, &cqe);
	else
		block_io_wait(uring->helper);
}

static void uring_destroy(struct block_io *io)
{
	struct block_uring *uring = container_of(io, struct block_uring, io);

	assert(uring->in_ring == 0);
	uring->helper->ops->destroy(uring->helper);
	io_uring_queue_exit(&uring->ring);
	free(uring);
}

static const struct block_io_ops uring_ops = {
	.name = "io_uring",
	.submit = uring_submit,
	.kick = uring_kick,
	.reap = uring_reap,
	.wait = uring_wait,
	.destroy = uring_destroy,
};

/* Kernels before 5.6 have rings that lack some of what is needed. */
static int check_operations(struct io_uring *ring)
{
	static const int needed[] = {
		IORING_OP_READV,
		IORING_OP_WRITEV,
		IORING_OP_FSYNC,
		IORING_OP_FALLOCATE,
	};
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	int result = probe ? 0 : -EOPNOTSUPP;

	for (size_t i = 0; probe && i < ARRAY_SIZE(needed); i++) {
		if (!io_uring_opcode_supported(probe, needed[i]))
			result = -EOPNOTSUPP;
	}
	io_uring_free_probe(probe);
	return result;
}

int block_io_uring_create(const struct block_io *base, unsigned depth, struct block_io **out)
{
	struct block_uring *uring = calloc(1, sizeof(*uring));
	int result;

	if (!uring)
		return -ENOMEM;
	uring->io = *base;
	uring->io.ops = &uring_ops;
	result = io_uring_queue_init(depth, &uring->ring, 0);
	if (result)
		goto free_uring;
	result = check_operations(&uring->ring);
	if (result)
		goto exit_ring;
	result = io_uring_register_eventfd(&uring->ring, base->event_fd);
	if (result)
		goto exit_ring;
	result = block_io_pool_create(base, 1, &uring->helper);
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
