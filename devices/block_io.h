/*
 * Asynchronous I/O on a disk.
 *
 * Requests go to io_uring where the host allows it, else to a few threads that do blocking I/O; the
 * difference cannot be seen from outside. Requests may complete in any order. A flush covers what
 * had completed when it was submitted.
 *
 * No lock of its own: the owner serialises all calls on one struct block_io, with one exception
 * that block_io_wait() names. Completions are found by block_io_reap(), which runs their callbacks
 * on the caller's thread; block_io_event_fd() becomes readable when there may be some. So the owner
 * decides where callbacks run: usually on the event loop's thread, and on whichever thread drains
 * the device when it is reset.
 *
 * The caller owns the requests and their memory, and leaves both alone until the callback.
 */
#ifndef EBB_DEVICES_BLOCK_IO_H
#define EBB_DEVICES_BLOCK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/block.h"

enum block_op {
	BLOCK_OP_READ,
	BLOCK_OP_WRITE,
	BLOCK_OP_FLUSH,        /* all completed writes become durable */
	BLOCK_OP_DISCARD,      /* the range's content no longer matters */
	BLOCK_OP_WRITE_ZEROES, /* the range reads as zeros */
};

enum block_io_kind {
	BLOCK_IO_AUTO,  /* io_uring, or the pool where the host refuses it */
	BLOCK_IO_URING, /* io_uring, or fail */
	BLOCK_IO_POOL,
};

struct block_request {
	enum block_op op;
	bool durable;      /* write: completes only when it is on stable storage */
	bool may_unmap;    /* write zeroes: the range may become a hole */
	uint64_t offset;   /* bytes; a request must lie inside the disk */
	uint64_t length;   /* bytes; for read and write the sum of the iovec */
	struct iovec *iov; /* read and write; used up as the transfer proceeds */
	size_t iov_count;  /* IOV_MAX at most */

	/*
	 * Called by block_io_reap(). @result is 0 or -errno: -EIO for a read behind the end of a
	 * file that has shrunk, -EOPNOTSUPP for a discard that the host's storage cannot do,
	 * -ECANCELED after block_io_abandon(). May submit requests, this one included.
	 */
	void (*done)(struct block_request *request, int result);

	/* The rest belongs to block_io while the request is under way. */
	struct block_request *next;
	int result;
};

struct block_io;

/* A transfer goes to the kernel in slices of this many bytes at most, so that it can be stopped. */
#define BLOCK_SLICE (2u << 20)

/*
 * Serves @block (borrowed) with up to @depth requests under way. 0 or -errno; with BLOCK_IO_AUTO
 * only for lack of memory or descriptors.
 */
int block_io_create(const struct block *block, enum block_io_kind kind, unsigned depth,
		    struct block_io **out);

/* No request may be under way. NULL is legal. */
void block_io_destroy(struct block_io *io);

/* Takes a request; block_io_kick() gets the taken ones going. Neither fails: the callback tells. */
void block_io_submit(struct block_io *io, struct block_request *request);
void block_io_kick(struct block_io *io);

/* Runs the callbacks of completed requests, and returns how many there were. */
unsigned block_io_reap(struct block_io *io);

/* Readable when block_io_reap() should be called, which clears it. */
int block_io_event_fd(const struct block_io *io);

/*
 * Sleeps until block_io_reap() is worth calling; at least one request must be under way. The caller
 * may have dropped the owner's lock if no other call on @io can happen meanwhile. 0, or -ETIMEDOUT
 * if nothing has happened by @deadline (devices/deadline.h).
 */
int block_io_wait(struct block_io *io, uint64_t deadline);

/*
 * For an owner that no longer wants its requests to be done: until told otherwise, those that wait
 * complete with -ECANCELED, and running ones stop as soon as they can.
 */
void block_io_abandon(struct block_io *io, bool abandon);

#endif
