/*
 * How far a fault reaches beyond its page. A toucher that goes through memory in order gets longer
 * and longer stretches, one that jumps about gets single pages: what it does not touch would only
 * fill RAM again. Several such streams are followed at once, the oldest is forgotten first.
 *
 * One lock inside; any thread.
 */
#ifndef EBB_SWAP_READ_AHEAD_H
#define EBB_SWAP_READ_AHEAD_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define READ_AHEAD_STREAMS 16u

/* The most pages at once (512 KiB). */
#define READ_AHEAD_MAX 128u

struct read_ahead {
	pthread_mutex_t lock;
	uint64_t clock;
	struct {
		size_t next;   /* the page that continues the stream */
		size_t length; /* of its last stretch */
		uint64_t used; /* when, by the clock above */
	} streams[READ_AHEAD_STREAMS];
};

void read_ahead_init(struct read_ahead *ahead);
void read_ahead_destroy(struct read_ahead *ahead);

/* How many pages from @page on to bring, 1 to READ_AHEAD_MAX. */
size_t read_ahead_length(struct read_ahead *ahead, size_t page);

/* @count pages from @page on were brought: the stream goes on behind them. */
void read_ahead_done(struct read_ahead *ahead, size_t page, size_t count);

/* @page needed nothing brought, a zero page between others: a stream that comes to it goes on. */
void read_ahead_skip(struct read_ahead *ahead, size_t page);

#endif
