#include "swap/latency.h"

#include <stddef.h>

#define SUB_BITS   3u
#define SUB        (1u << SUB_BITS)
#define FIRST_BIT  7u /* 128 ns */
#define FIRST_SIZE (1ull << (FIRST_BIT - SUB_BITS))

static size_t bucket_of(uint64_t ns)
{
	unsigned exponent;
	size_t bucket;

	if (ns < 1ull << FIRST_BIT)
		return ns / FIRST_SIZE;
	exponent = 63u - (unsigned)__builtin_clzll(ns);
	bucket = (size_t)(exponent - FIRST_BIT + 1) * SUB + (ns >> (exponent - SUB_BITS)) % SUB;
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The largest duration that belongs into @bucket. */
static uint64_t upper_end(size_t bucket)
{
	unsigned exponent = FIRST_BIT - 1 + (unsigned)(bucket / SUB);

	if (bucket < SUB)
		return (bucket + 1) * FIRST_SIZE - 1;
	return ((SUB + bucket % SUB + 1) << (exponent - SUB_BITS)) - 1;
}

void latency_add(struct latency *latency, uint64_t duration_ns)
{
	uint64_t max = atomic_load_explicit(&latency->max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&latency->buckets[bucket_of(duration_ns)], 1,
				  memory_order_relaxed);
	atomic_fetch_add_explicit(&latency->sum_ns, duration_ns, memory_order_relaxed);
	while (max < duration_ns &&
	       !atomic_compare_exchange_weak_explicit(&latency->max_ns, &max, duration_ns,
						      memory_order_relaxed, memory_order_relaxed))
		;
}

void latency_merge(struct latency *to, const struct latency *from)
{
	uint64_t from_max = from->max_ns, to_max = to->max_ns;

	for (size_t i = 0; i < LATENCY_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
	to->sum_ns += from->sum_ns;
	to->max_ns = from_max > to_max ? from_max : to_max;
}

/* The duration that @per_mille of all are within. */
static uint64_t percentile(const uint64_t counts[static LATENCY_BUCKETS], uint64_t total,
			   uint64_t max_ns, unsigned per_mille)
{
	/* Rounded up: the 99.9th percentile of ten samples is the largest. */
	uint64_t wanted = (total * per_mille + 999) / 1000, seen = 0;

	for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
		seen += counts[i];
		if (seen >= wanted)
			return upper_end(i) < max_ns ? upper_end(i) : max_ns;
	}
	return max_ns;
}

void latency_take(const struct latency *latency, struct latency_snapshot *snapshot)
{
	snapshot->count = 0;
	for (size_t i = 0; i < LATENCY_BUCKETS; i++)
		snapshot->count += snapshot->buckets[i] = latency->buckets[i];
	snapshot->sum_ns = latency->sum_ns;
}

void latency_between(const struct latency_snapshot *before, const struct latency_snapshot *after,
		     struct latency_snapshot *difference)
{
	for (size_t i = 0; i < LATENCY_BUCKETS; i++)
		difference->buckets[i] = after->buckets[i] - before->buckets[i];
	difference->count = after->count - before->count;
	difference->sum_ns = after->sum_ns - before->sum_ns;
}

uint64_t latency_below(const struct latency_snapshot *snapshot, unsigned exponent)
{
	uint64_t count = 0;

	for (size_t i = 0; i < LATENCY_BUCKETS && upper_end(i) >> exponent == 0; i++)
		count += snapshot->buckets[i];
	return count;
}

uint64_t latency_percentile(const struct latency_snapshot *snapshot, unsigned per_mille)
{
	if (!snapshot->count)
		return 0;
	return percentile(snapshot->buckets, snapshot->count, UINT64_MAX, per_mille);
}

void latency_summarize(const struct latency *latency, struct latency_summary *summary)
{
	uint64_t counts[LATENCY_BUCKETS];
	uint64_t total = 0;

	for (size_t i = 0; i < LATENCY_BUCKETS; i++)
		total += counts[i] = latency->buckets[i];
	*summary = (struct latency_summary){
		.count = total,
		.max_ns = latency->max_ns,
		.sum_ns = latency->sum_ns,
	};
	if (total == 0)
		return;
	summary->p50_ns = percentile(counts, total, summary->max_ns, 500);
	summary->p90_ns = percentile(counts, total, summary->max_ns, 900);
	summary->p99_ns = percentile(counts, total, summary->max_ns, 990);
	summary->p999_ns = percentile(counts, total, summary->max_ns, 999);
}
