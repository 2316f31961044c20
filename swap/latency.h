/*
 * A histogram of durations: 8 buckets to each power of two, from 128 ns on, so that a percentile is
 * known within an eighth. Any thread may add to it at any time, without a lock.
 */
#ifndef EBB_SWAP_LATENCY_H
#define EBB_SWAP_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#define LATENCY_BUCKETS 256u

struct latency {
	_Atomic uint64_t buckets[LATENCY_BUCKETS];
	_Atomic uint64_t sum_ns;
	_Atomic uint64_t max_ns;
};

struct latency_summary {
	uint64_t count;
	uint64_t p50_ns, p90_ns, p99_ns, p999_ns; /* upper ends of buckets, never above max_ns */
	uint64_t max_ns;
	uint64_t sum_ns;
};

/* What a histogram held at one moment, as plain numbers. */
struct latency_snapshot {
	uint64_t buckets[LATENCY_BUCKETS];
	uint64_t count; /* their sum */
	uint64_t sum_ns;
};

void latency_add(struct latency *latency, uint64_t duration_ns);

/* Adds all of @from to @to. */
void latency_merge(struct latency *to, const struct latency *from);

void latency_summarize(const struct latency *latency, struct latency_summary *summary);

void latency_take(const struct latency *latency, struct latency_snapshot *snapshot);

/* What came to @before since, up to @after: both of the same histogram, which never shrinks. */
void latency_between(const struct latency_snapshot *before, const struct latency_snapshot *after,
		     struct latency_snapshot *difference);

/* How many durations were shorter than 2^@exponent ns: exact from 7 on. */
uint64_t latency_below(const struct latency_snapshot *snapshot, unsigned exponent);

/* The duration that @per_mille of all are within, rounded up to its bucket's end; 0 if empty. */
uint64_t latency_percentile(const struct latency_snapshot *snapshot, unsigned per_mille);

#endif
