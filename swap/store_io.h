/*
 * Reads and writes of one file that are under way side by side: through io_uring, or by a few
 * threads where the host refuses it. Both give the same results.
 *
 * A struct store_io is shared by all queues of a file; a queue is for one thread at a time. A
 * request is the caller's: it and its buffer stay where they are until it is done. Everything that
 * was submitted is waited for before its queue is destroyed.
 */
#ifndef EBB_SWAP_STORE_IO_H
#define EBB_SWAP_STORE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swap/store_config.h"

struct store_io;
struct store_io_queue;

/* Set buffer to write; the rest is the queue's. Offset and length are as the file wants them. */
struct store_io_request {
	void *buffer;
	size_t length;
	uint64_t offset;
	bool write;

	bool done;
	int result; /* when done: 0 and all was moved, or -errno; -ENODATA: the file ended */
	size_t moved;
	struct store_io_queue *queue;
	struct store_io_request *next;
};

/*
 * @fd stays the caller's. @align: what a transfer that goes on after a short one must begin at. 0,
 * -ENOMEM, or why there is no io_uring (STORE_IO_URING alone).
 */
int store_io_create(int fd, uint32_t align, enum store_io_kind kind, struct store_io **out);
/* All queues are gone. NULL is legal. */
void store_io_destroy(struct store_io *io);
bool store_io_is_uring(const struct store_io *io);

/* At most @depth requests are in the kernel's hands at once; more wait in the queue. 0 or -errno. */
int store_io_queue_create(struct store_io *io, unsigned depth, struct store_io_queue **out);
void store_io_queue_destroy(struct store_io_queue *queue);

/* Begins once the next store_io_kick() is called. Never fails: the request does. */
void store_io_submit(struct store_io_queue *queue, struct store_io_request *request);
void store_io_kick(struct store_io_queue *queue);

/* True if the request is done. Does not sleep. */
bool store_io_poll(struct store_io_queue *queue, struct store_io_request *request);
/* Sleeps until it is, returns its result. */
int store_io_wait(struct store_io_queue *queue, struct store_io_request *request);

/* The same at once and without a queue. */
int store_io_transfer(struct store_io *io, struct store_io_request *request);

#endif
