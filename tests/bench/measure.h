/*
 * What the benchmark's programs share: options, samples of latencies, CPU time, the host's memory,
 * JSON. All times in JSON are in the unit that ends their name; latencies are in microseconds.
 */
#ifndef EBB_BENCH_MEASURE_H
#define EBB_BENCH_MEASURE_H

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/bench/contents.h"

/* ---- options ---- */

struct bench_options {
	uint64_t size; /* of guest memory */
	const char *directory;
	const char *parts; /* comma-separated; what they are is the program's */
	struct contents_config contents;
	/* bench_engine: the store */
	bool no_directory;
	uint64_t pool;
	const char *compress;
	int level;
	bool encrypt;
	const char *output;  /* bench_contents */
	const char *reclaim; /* bench_reference: file of the memory cgroup that makes it reclaim */
};

/* Exits with status 2 and a message where the command line makes no sense. */
void options_parse(int argc, char **argv, struct bench_options *options);

/* True if @part is one of those wanted. */
bool options_want(const struct bench_options *options, const char *part);

/* ---- latencies ---- */

struct samples {
	uint64_t *ns;
	size_t count, capacity;
};

/* Ends the program where there is no memory. */
void samples_create(struct samples *samples, size_t capacity);
void samples_destroy(struct samples *samples);

/* Adds one; what exceeds the capacity is not kept. */
static inline void samples_add(struct samples *samples, uint64_t ns)
{
	if (samples->count < samples->capacity)
		samples->ns[samples->count++] = ns;
}

/* Those above @above_ns: {"count", "p50", "p90", "p99", "p999", "max", "mean"}. Sorts. */
json_t *samples_json(struct samples *samples, uint64_t above_ns);

/* ---- the process and the host ---- */

/* A moment, to compare with a later one. */
struct moment {
	uint64_t ns;
	double cpu_s;                               /* user and system time of the process */
	int64_t mem_free, cached, dirty, writeback; /* bytes, from /proc/meminfo */
};

void moment_take(struct moment *moment);

/* Adds "ns", "cpu_s" and what the host's memory changed by since @start to @object. */
void moment_since(const struct moment *start, json_t *object);

/* Writes back what is dirty and empties the page cache. False where that is not allowed. */
bool drop_caches(const char *directory);

/* Sleeps until nothing is dirty any more, a few seconds at most. */
void settle(void);

/*
 * A virtual machine's host may take free memory away, and the first touch then takes ten times as
 * long: what is measured next would be the host. So memory is taken and touched before.
 *
 * warm_up() gives it back at once, which lasts a second or two; a reserve gives it back as the
 * memory behind @fd grows, for what takes longer.
 */
void warm_up(uint64_t bytes);

struct reserve {
	pthread_t thread;
	uint8_t *map;
	uint64_t size, released, blocks_before;
	int fd;
	atomic_bool stop;
};

void reserve_start(struct reserve *reserve, uint64_t bytes, int fd);
void reserve_stop(struct reserve *reserve);

/* Says why on standard error and exits with 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints @object and releases it. */
void print_json(json_t *object);

#endif
