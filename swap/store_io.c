#include "swap/store_io.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/ring.h"
#include "vmm/base/thread.h"

#define THREADS 4u

/* How long the kernel may be short of memory for io_uring before requests are done without. */
#define SUBMIT_TRIES 200

struct request_list {
	struct store_io_request *first;
	struct store_io_request **last;
};

struct store_io {
	int fd;
	uint32_t align;
	bool uring;

	/* The threads' side. */
	pthread_mutex_t lock;    /* guards what follows, and done of all requests */
	pthread_cond_t has_work; /* or stop is set */
	struct request_list work;
	pthread_t threads[THREADS];
	unsigned started;
	bool stop;
};

struct store_io_queue {
	struct store_io *io;
	bool ring_is_set_up;
	bool ring_is_dead; /* takes nothing new */
	pthread_cond_t done;

	/* The ring's side. The queue's own thread alone. */
	struct io_uring ring;
	unsigned depth;
	unsigned in_kernel;
	struct request_list waiting;   /* not in the ring */
	struct request_list submitted; /* in the ring, not yet in the kernel's hands */
};

static void list_init(struct request_list *list)
{
	list->first = NULL;
	list->last = &list->first;
}

static void list_append(struct request_list *list, struct store_io_request *request)
{
	request->next = NULL;
	*list->last = request;
	list->last = &request->next;
}

static struct store_io_request *list_pop(struct request_list *list)
{
	struct store_io_request *request = list->first;

	if (request) {
		list->first = request->next;
		if (!list->first)
			list->last = &list->first;
	}
	return request;
}

/*
 * Accounts for one transfer that moved @moved bytes, or failed: -errno. True: the request is over,
 * with *result; else it goes on behind what was moved.
 */
static bool account(const struct store_io *io, struct store_io_request *request, ssize_t moved,
		    int *result)
{
	if (moved == -EINTR || moved == -EAGAIN)
		return false;
	if (moved <= 0) {
		*result = moved < 0 ? (int)moved : request->write ? -EIO : -ENODATA;
		return true;
	}
	request->moved += (size_t)moved;
	*result = 0;
	if (request->moved >= request->length)
		return true;
	/* A read that ends between blocks has met the end of the file. */
	*result = request->write ? -ENOSPC : -ENODATA;
	return !is_aligned(request->moved, io->align);
}

int store_io_transfer(struct store_io *io, struct store_io_request *request)
{
	int result = 0;
	ssize_t moved;

	request->moved = 0;
	do {
		char *buffer = (char *)request->buffer + request->moved;
		size_t left = request->length - request->moved;
		off_t offset = (off_t)(request->offset + request->moved);

		moved = request->write ? pwrite(io->fd, buffer, left, offset)
				       : pread(io->fd, buffer, left, offset);
		if (moved < 0)
			moved = -errno;
	} while (!account(io, request, moved, &result));
	return result;
}

/* ---- threads ---- */

static void *work(void *arg)
{
	struct store_io *io = arg;

	pthread_mutex_lock(&io->lock);
	for (;;) {
		struct store_io_request *request = list_pop(&io->work);
		int result;

		if (!request) {
			if (io->stop)
				break;
			pthread_cond_wait(&io->has_work, &io->lock);
			continue;
		}
		pthread_mutex_unlock(&io->lock);
		result = store_io_transfer(io, request);
		pthread_mutex_lock(&io->lock);
		request->result = result;
		request->done = true;
		pthread_cond_broadcast(&request->queue->done);
	}
	pthread_mutex_unlock(&io->lock);
	return NULL;
}

/* Hands all that waits to the threads, which are started when there is work for them. */
static void give_to_threads(struct store_io_queue *queue)
{
	struct store_io *io = queue->io;
	struct store_io_request *request;

	pthread_mutex_lock(&io->lock);
	while ((request = list_pop(&queue->waiting))) {
		list_append(&io->work, request);
		if (io->started < THREADS &&
		    !thread_start(&io->threads[io->started], "swap-io", work, io))
			io->started++;
	}
	pthread_cond_broadcast(&io->has_work);
	/* No thread to be had: this one then. */
	while (io->started == 0 && (request = list_pop(&io->work))) {
		request->result = store_io_transfer(io, request);
		request->done = true;
	}
	pthread_mutex_unlock(&io->lock);
}

static bool threads_done(struct store_io_queue *queue, struct store_io_request *request, bool sleep)
{
	bool done;

	pthread_mutex_lock(&queue->io->lock);
	while (!request->done && sleep)
		pthread_cond_wait(&queue->done, &queue->io->lock);
	done = request->done;
	pthread_mutex_unlock(&queue->io->lock);
	return done;
}

/* ---- io_uring ---- */

static void ring_submit(struct store_io_queue *queue);

/* Moves what waits to the ring, as far as the depth lets it. */
static void fill_ring(struct store_io_queue *queue)
{
	while (queue->waiting.first && queue->in_kernel < queue->depth) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&queue->ring);
		struct store_io_request *request;
		char *buffer;
		unsigned left;

		if (!sqe)
			break;
		request = list_pop(&queue->waiting);
		buffer = (char *)request->buffer + request->moved;
		left = (unsigned)(request->length - request->moved);
		if (request->write)
			io_uring_prep_write(sqe, queue->io->fd, buffer, left,
					    request->offset + request->moved);
		else
			io_uring_prep_read(sqe, queue->io->fd, buffer, left,
					   request->offset + request->moved);
		io_uring_sqe_set_data(sqe, request);
		list_append(&queue->submitted, request);
		queue->in_kernel++;
	}
}

/* Takes what is complete off the ring. True: something was. */
static bool reap(struct store_io_queue *queue)
{
	struct io_uring_cqe *cqe;
	bool any = false;

	while (!io_uring_peek_cqe(&queue->ring, &cqe)) {
		struct store_io_request *request = io_uring_cqe_get_data(cqe);
		int moved = cqe->res;

		io_uring_cqe_seen(&queue->ring, cqe);
		queue->in_kernel--;
		any = true;
		if (account(queue->io, request, moved, &request->result))
			request->done = true;
		else
			list_append(&queue->waiting, request);
	}
	return any;
}

/* The ring takes nothing more: what it was to take is done without it. */
static void give_up_ring(struct store_io_queue *queue, int result)
{
	struct store_io_request *request;

	log_warning("swap store: io_uring_submit: %s; going on without it",
		    strerrordesc_np(-result));
	queue->ring_is_dead = true;
	while ((request = list_pop(&queue->submitted))) {
		queue->in_kernel--;
		request->result = store_io_transfer(queue->io, request);
		request->done = true;
	}
}

static void ring_submit(struct store_io_queue *queue)
{
	const struct timespec pause = {.tv_nsec = (long)NS_PER_MS};
	int tries = 0;

	fill_ring(queue);
	while (queue->submitted.first) {
		int result = io_uring_submit(&queue->ring);

		for (int i = 0; i < result; i++)
			list_pop(&queue->submitted);
		if (result > 0 || result == -EINTR)
			continue;
		if (reap(queue))
			continue;
		if (++tries > SUBMIT_TRIES)
			give_up_ring(queue, result);
		else
			nanosleep(&pause, NULL);
	}
}

static bool ring_done(struct store_io_queue *queue, struct store_io_request *request, bool sleep)
{
	struct io_uring_cqe *cqe;
	bool done;

	for (;;) {
		if (queue->in_kernel > 0)
			reap(queue);
		if (queue->waiting.first && !queue->ring_is_dead)
			ring_submit(queue);
		/* Perhaps since a moment ago. What is with the threads is theirs until the lock says so. */
		if (queue->ring_is_dead)
			give_to_threads(queue);
		done = queue->ring_is_dead ? threads_done(queue, request, false) : request->done;
		if (done || !sleep)
			return done;
		if (queue->in_kernel == 0)
			return threads_done(queue, request, true);
		io_uring_wait_cqe(&queue->ring, &cqe);
	}
}

/* ---- both ---- */

void store_io_submit(struct store_io_queue *queue, struct store_io_request *request)
{
	request->queue = queue;
	request->done = false;
	request->moved = 0;
	list_append(&queue->waiting, request);
}

void store_io_kick(struct store_io_queue *queue)
{
	if (queue->ring_is_set_up && !queue->ring_is_dead)
		ring_submit(queue);
	else
		give_to_threads(queue);
}

bool store_io_poll(struct store_io_queue *queue, struct store_io_request *request)
{
	return queue->ring_is_set_up ? ring_done(queue, request, false)
				     : threads_done(queue, request, false);
}

int store_io_wait(struct store_io_queue *queue, struct store_io_request *request)
{
	if (queue->ring_is_set_up)
		ring_done(queue, request, true);
	else
		threads_done(queue, request, true);
	return request->result;
}

static const uint8_t operations[] = {IORING_OP_READ, IORING_OP_WRITE};

static int set_up_ring(struct store_io_queue *queue, unsigned depth)
{
	int result = ring_create(&queue->ring, depth);

	if (result)
		return result;
	result = ring_start(&queue->ring, operations, ARRAY_SIZE(operations));
	if (result)
		io_uring_queue_exit(&queue->ring);
	return result;
}

int store_io_queue_create(struct store_io *io, unsigned depth, struct store_io_queue **out)
{
	struct store_io_queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return -ENOMEM;
	queue->io = io;
	queue->depth = depth;
	list_init(&queue->waiting);
	list_init(&queue->submitted);
	pthread_cond_init(&queue->done, NULL);
	/* No memory for a ring now: this queue does with the threads. */
	queue->ring_is_set_up = io->uring && !set_up_ring(queue, depth);
	*out = queue;
	return 0;
}

void store_io_queue_destroy(struct store_io_queue *queue)
{
	if (!queue)
		return;
	assert(queue->in_kernel == 0 && !queue->waiting.first);
	if (queue->ring_is_set_up)
		io_uring_queue_exit(&queue->ring);
	pthread_cond_destroy(&queue->done);
	free(queue);
}

/* 0 if the host lets us have a ring that reads and writes. */
static int try_uring(void)
{
	struct io_uring ring;
	int result = ring_create(&ring, 2);

	if (result)
		return result;
	result = ring_check(&ring, operations, ARRAY_SIZE(operations));
	io_uring_queue_exit(&ring);
	return result;
}

/*
 * Who submits to io_uring is not to wait for the disk. On FUSE (virtiofs too) it would: the files can be
 * polled, and io_uring takes that for a promise not to block.
 */
static bool would_block(int fd)
{
	struct statfs info;

	return !fstatfs(fd, &info) && info.f_type == FUSE_SUPER_MAGIC;
}

int store_io_create(int fd, uint32_t align, enum store_io_kind kind, struct store_io **out)
{
	bool threads = kind == STORE_IO_THREADS || (kind == STORE_IO_AUTO && would_block(fd));
	int result = threads ? -EOPNOTSUPP : try_uring();
	struct store_io *io;

	if (result && kind == STORE_IO_URING)
		return result;
	io = calloc(1, sizeof(*io));
	if (!io)
		return -ENOMEM;
	io->fd = fd;
	io->align = align;
	io->uring = result == 0;
	list_init(&io->work);
	pthread_mutex_init(&io->lock, NULL);
	pthread_cond_init(&io->has_work, NULL);
	*out = io;
	return 0;
}

void store_io_destroy(struct store_io *io)
{
	if (!io)
		return;
	pthread_mutex_lock(&io->lock);
	io->stop = true;
	pthread_cond_broadcast(&io->has_work);
	pthread_mutex_unlock(&io->lock);
	for (unsigned i = 0; i < io->started; i++)
		pthread_join(io->threads[i], NULL);
	pthread_cond_destroy(&io->has_work);
	pthread_mutex_destroy(&io->lock);
	free(io);
}

bool store_io_is_uring(const struct store_io *io)
{
	return io->uring;
}
