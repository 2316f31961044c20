/*
 * Threads that touch guest memory, and how long each touch took.
 */
#ifndef EBB_BENCH_TOUCH_H
#define EBB_BENCH_TOUCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/contents.h"
#include "tests/bench/measure.h"

/* A touch that took longer than this found no page to read at once. */
#define TOUCH_FAULT_NS 1000u

/* Pages to touch, in this order. */
struct touch_list {
	uint32_t *page;
	size_t count;
};

/*
 * At most @limit of the pages [first, end), in order or shuffled (another way for
 * another limit), each once; without those whose
 * content is zero if @contents is given (no store has anything to bring for them).
 */
void touch_list_create(struct touch_list *list, uint64_t first, uint64_t end, size_t limit,
		       bool shuffle, const struct contents *contents);
void touch_list_destroy(struct touch_list *list);

/*
 * Reads a byte of each page at @base, sleeping @pause_us between two, until *@stop if that is given.
 */
void touch_all(const uint8_t *base, const struct touch_list *list, unsigned pause_us,
	       const atomic_bool *stop, struct samples *samples);

/* A thread that runs touch_all() until it is stopped. */
struct toucher {
	pthread_t thread;
	const uint8_t *base;
	struct touch_list list;
	unsigned pause_us;
	atomic_bool stop;
	struct samples samples;
};

void toucher_start(struct toucher *toucher); /* base, list and pause are set */
void toucher_stop(struct toucher *toucher);  /* the samples stay; releases the list */

/*
 * A thread that never pauses and knows the longest time between two of its touches. It goes round
 * a few pages, which it writes as they are.
 */
struct busy_toucher {
	pthread_t thread;
	uint8_t *base;
	uint64_t pages;
	atomic_bool stop;
	atomic_uint_fast64_t longest_ns;
};

void busy_toucher_start(struct busy_toucher *toucher, uint8_t *base, uint64_t pages);
/* The longest stall since the last call. */
uint64_t busy_toucher_longest(struct busy_toucher *toucher);
void busy_toucher_stop(struct busy_toucher *toucher);

#endif
