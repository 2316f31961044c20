#include "tests/bench/measure.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/guest_memory.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- options ---- */

enum {
	OPTION_SIZE = 256,
	OPTION_DIRECTORY,
	OPTION_PARTS,
	OPTION_MIX,
	OPTION_CONTENTS,
	OPTION_SEED,
	OPTION_NO_DIRECTORY,
	OPTION_POOL,
	OPTION_COMPRESS,
	OPTION_LEVEL,
	OPTION_ENCRYPT,
	OPTION_OUTPUT,
	OPTION_RECLAIM,
};

static const struct option option_table[] = {
	{"size", required_argument, NULL, OPTION_SIZE},
	{"swap-dir", required_argument, NULL, OPTION_DIRECTORY},
	{"parts", required_argument, NULL, OPTION_PARTS},
	{"mix", required_argument, NULL, OPTION_MIX},
	{"contents", required_argument, NULL, OPTION_CONTENTS},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"no-store-file", no_argument, NULL, OPTION_NO_DIRECTORY},
	{"pool", required_argument, NULL, OPTION_POOL},
	{"compress", required_argument, NULL, OPTION_COMPRESS},
	{"level", required_argument, NULL, OPTION_LEVEL},
	{"encrypt", required_argument, NULL, OPTION_ENCRYPT},
	{"output", required_argument, NULL, OPTION_OUTPUT},
	{"reclaim", required_argument, NULL, OPTION_RECLAIM},
	{NULL, 0, NULL, 0},
};

static uint64_t size_option(const char *text)
{
	uint64_t bytes;

	if (size_parse(text, &bytes) || bytes % GUEST_PAGE_SIZE) {
		fprintf(stderr, "not a size in whole pages: %s\n", text);
		exit(2);
	}
	return bytes;
}

static void take_option(struct bench_options *options, int option, const char *value)
{
	struct error err;

	switch (option) {
	case OPTION_SIZE:
		options->size = size_option(value);
		break;
	case OPTION_DIRECTORY:
		options->directory = value;
		break;
	case OPTION_PARTS:
		options->parts = value;
		break;
	case OPTION_MIX:
		if (contents_parse_mix(value, &options->contents, &err)) {
			fprintf(stderr, "%s\n", err.text);
			exit(2);
		}
		break;
	case OPTION_CONTENTS:
		options->contents.file = value;
		break;
	case OPTION_SEED:
		options->contents.seed = strtoull(value, NULL, 0);
		break;
	case OPTION_NO_DIRECTORY:
		options->no_directory = true;
		break;
	case OPTION_POOL:
		options->pool = size_option(value);
		break;
	case OPTION_COMPRESS:
		options->compress = value;
		break;
	case OPTION_LEVEL:
		options->level = atoi(value);
		break;
	case OPTION_ENCRYPT:
		options->encrypt = !strcmp(value, "on");
		break;
	case OPTION_OUTPUT:
		options->output = value;
		break;
	case OPTION_RECLAIM:
		options->reclaim = value;
		break;
	default:
		exit(2);
	}
}

void options_parse(int argc, char **argv, struct bench_options *options)
{
	int option;

	*options = (struct bench_options){
		.size = 256 * MIB,
		.directory = "/var/tmp",
		.parts = "",
		.contents = contents_default,
		.compress = "lz4",
		.encrypt = true,
	};
	while ((option = getopt_long(argc, argv, "", option_table, NULL)) != -1)
		take_option(options, option, optarg);
	if (optind != argc || options->size < 16 * MIB) {
		fprintf(stderr, "%s: %s\n", argv[0],
			optind != argc ? "too many arguments" : "at least 16M of memory");
		exit(2);
	}
}

bool options_want(const struct bench_options *options, const char *part)
{
	size_t length = strlen(part);

	for (const char *at = options->parts; (at = strstr(at, part)); at += length)
		if ((at == options->parts || at[-1] == ',') && (at[length] == ',' || !at[length]))
			return true;
	return false;
}

/* ---- latencies ---- */

void samples_create(struct samples *samples, size_t capacity)
{
	samples->ns = malloc((capacity ? capacity : 1) * sizeof(*samples->ns));
	if (!samples->ns)
		die("no memory for %zu samples", capacity);
	/* So that a sample is not a page fault of its own. */
	memset(samples->ns, 0, capacity * sizeof(*samples->ns));
	samples->capacity = capacity;
	samples->count = 0;
}

void samples_destroy(struct samples *samples)
{
	free(samples->ns);
}

static int compare_ns(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;

	return (first > second) - (first < second);
}

static void set_us(json_t *object, const char *key, double ns)
{
	json_object_set_new(object, key, json_real(ns / 1000));
}

static uint64_t permille(const uint64_t *sorted, size_t count, size_t part)
{
	return sorted[count * part / 1000];
}

json_t *samples_json(struct samples *samples, uint64_t above_ns)
{
	json_t *object = json_object();
	const uint64_t *ns = samples->ns;
	size_t count = samples->count;
	double sum = 0;

	qsort(samples->ns, count, sizeof(*ns), compare_ns);
	while (count && *ns <= above_ns) {
		ns++;
		count--;
	}
	json_object_set_new(object, "count", json_integer((json_int_t)count));
	if (!count)
		return object;
	for (size_t i = 0; i < count; i++)
		sum += (double)ns[i];
	set_us(object, "p50", (double)permille(ns, count, 500));
	set_us(object, "p90", (double)permille(ns, count, 900));
	set_us(object, "p99", (double)permille(ns, count, 990));
	set_us(object, "p999", (double)permille(ns, count, 999));
	set_us(object, "max", (double)ns[count - 1]);
	set_us(object, "mean", sum / (double)count);
	return object;
}

/* ---- the process and the host ---- */

static double seconds(const struct timeval *time)
{
	return (double)time->tv_sec + (double)time->tv_usec / 1e6;
}

static int64_t meminfo(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line ? (int64_t)(strtoull(line + strlen(name), NULL, 10) * KIB) : 0;
}

static void read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd >= 0 ? read(fd, text, size - 1) : -1;

	text[length > 0 ? length : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

void moment_take(struct moment *moment)
{
	struct rusage usage;
	char text[4096];

	read_file("/proc/meminfo", text, sizeof(text));
	moment->mem_free = meminfo(text, "\nMemFree:");
	moment->cached = meminfo(text, "\nCached:") - meminfo(text, "\nShmem:");
	moment->writeback = meminfo(text, "\nWriteback:");
	moment->dirty = meminfo(text, "\nDirty:") + moment->writeback;
	getrusage(RUSAGE_SELF, &usage);
	moment->cpu_s = seconds(&usage.ru_utime) + seconds(&usage.ru_stime);
	moment->ns = clock_monotonic_ns();
}

static void set_integer(json_t *object, const char *key, int64_t value)
{
	json_object_set_new(object, key, json_integer(value));
}

void moment_since(const struct moment *start, json_t *object)
{
	uint64_t ns = clock_monotonic_ns();
	struct moment now;

	moment_take(&now);
	set_integer(object, "ns", (int64_t)(ns - start->ns));
	json_object_set_new(object, "cpu_s", json_real(now.cpu_s - start->cpu_s));
	set_integer(object, "mem_free_change", now.mem_free - start->mem_free);
	set_integer(object, "page_cache_change", now.cached - start->cached);
	set_integer(object, "dirty_change", now.dirty - start->dirty);
}

bool drop_caches(const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done;

	if (fd >= 0) {
		syncfs(fd);
		close(fd);
	}
	fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	done = fd >= 0 && write(fd, "1", 1) == 1;
	if (fd >= 0)
		close(fd);
	return done;
}

void settle(void)
{
	struct moment now;

	for (int i = 0; i < 100; i++) {
		moment_take(&now);
		if (now.dirty < (int64_t)(4 * MIB))
			return;
		usleep(50000);
	}
}

/* ---- memory that the host has provided already ---- */

/* At least this much is free and warm at any time. */
#define RESERVE_AHEAD (1 * GIB)
#define RESERVE_PIECE (64 * MIB)

static void *take_memory(uint64_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	madvise(map, bytes, MADV_HUGEPAGE);
	if (madvise(map, bytes, MADV_POPULATE_WRITE)) {
		munmap(map, bytes);
		return NULL;
	}
	return map;
}

void warm_up(uint64_t bytes)
{
	void *map = take_memory(bytes);

	if (map)
		munmap(map, bytes);
}

static uint64_t blocks_of(int fd)
{
	struct stat status;

	return fstat(fd, &status) ? 0 : (uint64_t)status.st_blocks * 512;
}

/* Gives back what is needed for now. */
static void release(struct reserve *reserve)
{
	uint64_t grown = blocks_of(reserve->fd) - reserve->blocks_before;

	while (reserve->released < reserve->size && reserve->released < grown + RESERVE_AHEAD) {
		uint64_t length = reserve->size - reserve->released;

		if (length > RESERVE_PIECE)
			length = RESERVE_PIECE;
		munmap(reserve->map + reserve->released, length);
		reserve->released += length;
	}
}

static void *run_reserve(void *arg)
{
	struct reserve *reserve = arg;

	while (!reserve->stop && reserve->released < reserve->size) {
		release(reserve);
		usleep(20000);
	}
	return NULL;
}

void reserve_start(struct reserve *reserve, uint64_t bytes, int fd)
{
	*reserve = (struct reserve){.size = bytes, .fd = fd, .blocks_before = blocks_of(fd)};
	reserve->map = take_memory(bytes);
	if (!reserve->map)
		return;
	release(reserve);
	if (pthread_create(&reserve->thread, NULL, run_reserve, reserve))
		die("cannot start a thread");
}

void reserve_stop(struct reserve *reserve)
{
	if (!reserve->map)
		return;
	reserve->stop = true;
	pthread_join(reserve->thread, NULL);
	if (reserve->released < reserve->size)
		munmap(reserve->map + reserve->released, reserve->size - reserve->released);
}

void print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	putchar('\n');
	fflush(stdout);
	json_decref(object);
}
