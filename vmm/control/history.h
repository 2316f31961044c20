/*
 * What became of a VM since its start, in fixed memory: a row of samples, each of a span of time.
 *
 * Spans join up without gaps. When HISTORY_SAMPLES of them are there, each two neighbours become one
 * and spans are twice as long from then on: the row always covers the whole life, by 256 samples at
 * least once it was full. What a merged sample says:
 *
 *   bytes     the mean over its span
 *   cpu, faults.count   the sum
 *   p50       the mean of both, weighted by their faults: between the two
 *   p99       the greater of both: never less than the true one
 *
 * Operations are remembered as marks, the last HISTORY_MARKS of them.
 *
 * Pure: time and figures come from the caller. One thread.
 */
#ifndef EBB_VMM_CONTROL_HISTORY_H
#define EBB_VMM_CONTROL_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "swap/swap.h"
#include "vmm/machine/memory_states.h"

#define HISTORY_SAMPLES     512u
#define HISTORY_MARKS       128u
#define HISTORY_INTERVAL_NS 1000000000ull /* at first */
#define HISTORY_BYTES_MAX   (64u << 10)   /* what a struct history may take */

/* What is known at one moment; counters never go back, but for the vCPUs' at a reset. */
struct history_input {
	uint64_t now_ns; /* CLOCK_MONOTONIC */
	uint64_t bytes[MEMORY_STATES];
	uint64_t cpu_ns;
	struct latency_snapshot latency[SWAP_FAULT_KINDS];
};

struct history_faults {
	uint32_t count; /* no more than it holds */
	float p50_ns;   /* 0 without faults */
	float p99_ns;
};

struct history_sample {
	uint64_t start_ns; /* CLOCK_MONOTONIC */
	uint64_t end_ns;
	uint64_t cpu_ns;               /* that the vCPUs used */
	uint32_t pages[MEMORY_STATES]; /* of 4 KiB */
	struct history_faults faults[SWAP_FAULT_KINDS];
};

enum history_outcome {
	HISTORY_DONE,
	HISTORY_FAILED,
	HISTORY_CANCELLED,
};

struct history_mark {
	uint64_t start_ns;
	uint64_t duration_ns;
	uint64_t moved_bytes;
	enum swap_operation operation;
	enum history_outcome outcome;
};

struct history;

/* Time begins with @first. NULL: out of memory. */
struct history *history_create(const struct history_input *first);

/* NULL is legal. */
void history_destroy(struct history *history);

/* The span since the last call. Moments that are not after that are ignored. */
void history_add(struct history *history, const struct history_input *input);

void history_add_mark(struct history *history, const struct history_mark *mark);

/* How long a span is at least, give or take a quarter. */
uint64_t history_interval_ns(const struct history *history);
uint64_t history_start_ns(const struct history *history);

/* Oldest first. */
size_t history_sample_count(const struct history *history);
const struct history_sample *history_sample(const struct history *history, size_t index);
size_t history_mark_count(const struct history *history);
const struct history_mark *history_mark(const struct history *history, size_t index);
uint64_t history_marks_dropped(const struct history *history);

#endif
