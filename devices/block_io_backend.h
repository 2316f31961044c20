/* The ways to do block I/O, for block_io*.c alone; see block_io.h for the rules. */
#ifndef EBB_DEVICES_BLOCK_IO_BACKEND_H
#define EBB_DEVICES_BLOCK_IO_BACKEND_H

#include <stdatomic.h>

#include "devices/block_io.h"

/* As the functions of block_io.h; reap() returns the completed requests, linked by ->next. */
struct block_io_ops {
	void (*submit)(struct block_io *io, struct block_request *request);
	void (*kick)(struct block_io *io);
	struct block_request *(*reap)(struct block_io *io);
	int (*wait)(struct block_io *io, uint64_t deadline);
	void (*abandon)(struct block_io *io, bool abandon); /* optional */
	void (*destroy)(struct block_io *io);
};

/* A back end embeds this first. */
struct block_io {
	const struct block_io_ops *ops;
	const struct block *block;
	int event_fd; /* owned by whoever created the outermost back end */
	atomic_bool abandoned;
};

/* @base says which disk and eventfd. Each returns 0 or -errno. */
int block_io_uring_create(const struct block_io *base, unsigned depth, struct block_io **out);
int block_io_pool_create(const struct block_io *base, struct block_io **out);

/* How many of a transfer's buffers are in its next slice; 0: not even the first one fits. */
size_t block_request_slice(const struct block_request *request);

/* Drops the first @bytes of the request's iovec and range. */
void block_request_advance(struct block_request *request, uint64_t bytes);

#endif
