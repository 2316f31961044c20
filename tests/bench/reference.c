/*
 * bench_reference --parts memcpy,swap,disk,uffd: one JSON object with a member for each part.
 * Who calls it with "swap" has made the device active that is meant.
 */
#include "tests/bench/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/guest_memory.h"
#include "tests/bench/touch.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* One madvise(2) at a time takes this much. */
#define PAGEOUT_BYTES (16 * MIB)
#define PASSES_MAX    20
/* Others write too. */
#define WRITEBACK_NOISE (2 * MIB)

#define RANDOM_TOUCHES 2000u

json_t *reference_skipped(const char *format, ...)
{
	va_list arguments;
	char text[256];

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	return json_pack("{s:s}", "skipped", text);
}

static uint8_t *map_memfd(uint64_t size, int *fd)
{
	void *map;

	*fd = memfd_create("ebb-bench", MFD_CLOEXEC);
	if (*fd < 0 || ftruncate(*fd, (off_t)size))
		die("memfd: %s", strerror(errno));
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (map == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return map;
}

static void unmap_memfd(uint8_t *map, uint64_t size, int fd)
{
	munmap(map, size);
	close(fd);
}

static struct contents *create_contents(const struct bench_options *options)
{
	struct contents *contents;
	struct error err;

	if (contents_create(&options->contents, &contents, &err))
		die("%s", err.text);
	return contents;
}

json_t *reference_memcpy(const struct bench_options *options)
{
	struct contents *contents = create_contents(options);
	json_t *result = json_object();
	int source_fd, target_fd;
	uint8_t *source = map_memfd(options->size, &source_fd);
	uint8_t *target = map_memfd(options->size, &target_fd);
	struct moment start;

	contents_fill(contents, source, options->size / GUEST_PAGE_SIZE);
	warm_up(options->size);
	moment_take(&start);
	memcpy(target, source, options->size);
	moment_since(&start, result);
	unmap_memfd(source, options->size, source_fd);
	unmap_memfd(target, options->size, target_fd);
	contents_destroy(contents);
	return result;
}

/* ---- the kernel's swap ---- */

static uint64_t resident_pages(uint8_t *map, uint64_t pages, unsigned char *vector)
{
	uint64_t count = 0;

	if (mincore(map, pages * GUEST_PAGE_SIZE, vector))
		die("mincore: %s", strerror(errno));
	for (uint64_t page = 0; page < pages; page++)
		count += vector[page] & 1;
	return count;
}

struct slice {
	pthread_t thread;
	uint8_t *start;
	uint64_t length;
	int error;
};

static void *page_out_slice(void *arg)
{
	struct slice *slice = arg;

	for (uint64_t at = 0; at < slice->length; at += PAGEOUT_BYTES) {
		uint64_t length = slice->length - at;

		if (length > PAGEOUT_BYTES)
			length = PAGEOUT_BYTES;
		if (madvise(slice->start + at, length, MADV_PAGEOUT))
			slice->error = errno;
	}
	return NULL;
}

/* True when nothing is on its way to the device any more. */
static bool is_written(const struct moment *start)
{
	struct moment now;

	moment_take(&now);
	return now.writeback <= start->writeback + (int64_t)WRITEBACK_NOISE;
}

/*
 * What was written stays in the swap cache until someone wants memory: the cgroup is made to. False
 * where nothing can make it. Not part of the time: the memory is as good as free.
 */
static bool reclaim_swap_cache(const struct bench_options *options)
{
	char text[32];
	int fd;

	if (!options->reclaim)
		return false;
	fd = open(options->reclaim, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	/* memory.reclaim wants a size, memory.force_empty takes any. */
	snprintf(text, sizeof(text), "%llu", (unsigned long long)options->size);
	for (int i = 0; i < PASSES_MAX; i++)
		if (write(fd, text, strlen(text)) > 0)
			break;
	close(fd);
	return true;
}

/* All of it, until it is on the device. -ENOSPC if much is still there afterwards. */
static int page_out(const struct bench_options *options, uint8_t *map, unsigned threads,
		    json_t *result)
{
	uint64_t pages = options->size / GUEST_PAGE_SIZE, left;
	unsigned char *vector = calloc(pages, 1);
	struct slice slices[2];
	struct moment start;
	int error = 0;

	if (!vector)
		die("no memory");
	moment_take(&start);
	for (unsigned i = 0; i < threads; i++) {
		slices[i] = (struct slice){.start = map + options->size / threads * i,
					   .length = options->size / threads};
		if (pthread_create(&slices[i].thread, NULL, page_out_slice, &slices[i]))
			die("cannot start a thread");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(slices[i].thread, NULL);
		if (slices[i].error)
			error = -slices[i].error;
	}
	while (!is_written(&start))
		usleep(500);
	moment_since(&start, result);
	left = resident_pages(map, pages, vector);
	if (left > pages / 50 && reclaim_swap_cache(options))
		left = resident_pages(map, pages, vector);
	free(vector);
	json_object_set_new(result, "left_pages", json_integer((json_int_t)left));
	json_object_set_new(result, "freed_bytes",
			    json_integer((json_int_t)((pages - left) * GUEST_PAGE_SIZE)));
	return !error && left > pages / 20 ? -ENOSPC : error;
}

static json_t *touch_some(const uint8_t *map, uint64_t first, uint64_t end, size_t limit,
			  bool shuffle, const struct contents *contents)
{
	struct touch_list list;
	struct samples samples;
	uint64_t start, ns;
	json_t *result;

	touch_list_create(&list, first, end, limit, shuffle, contents);
	samples_create(&samples, list.count);
	start = clock_monotonic_ns();
	touch_all(map, &list, 0, NULL, &samples);
	ns = clock_monotonic_ns() - start;
	result = samples_json(&samples, 0);
	json_object_set_new(result, "bytes_per_s",
			    json_real((double)list.count * GUEST_PAGE_SIZE * 1e9 / (double)ns));
	samples_destroy(&samples);
	touch_list_destroy(&list);
	return result;
}

json_t *reference_kernel_swap(const struct bench_options *options)
{
	struct contents *contents = create_contents(options);
	json_t *result = json_object(), *out = json_object(), *again = json_object();
	uint64_t pages = options->size / GUEST_PAGE_SIZE;
	uint8_t *map;
	int fd, error;

	settle();
	warm_up(options->size);
	map = map_memfd(options->size, &fd);
	contents_fill(contents, map, pages);
	error = page_out(options, map, 1, out);
	json_object_set_new(result, "out", out);
	if (!error) {
		drop_caches(options->directory);
		warm_up(options->size);
		json_object_set_new(result, "random",
				    touch_some(map, 0, pages / 2, RANDOM_TOUCHES, true, contents));
		json_object_set_new(result, "sequential",
				    touch_some(map, pages / 2, pages, pages, false, NULL));
		warm_up(options->size);
		contents_fill(contents, map, pages);
		error = page_out(options, map, 2, again);
	}
	json_object_set_new(result, "out_2_threads", again);
	if (error)
		json_object_set_new(
			result, "error",
			json_string(error == -ENOSPC
					    ? "pages stayed in memory (swap device full, or the "
					      "swap cache cannot be reclaimed)"
					    : strerror(-error)));
	unmap_memfd(map, options->size, fd);
	contents_destroy(contents);
	return result;
}

static const struct {
	const char *name;
	json_t *(*measure)(const struct bench_options *options);
} part_table[] = {
	{"memcpy", reference_memcpy},
	{"swap", reference_kernel_swap},
	{"disk", reference_disk},
	{"uffd", reference_uffd},
};

int main(int argc, char **argv)
{
	struct bench_options options;
	json_t *result = json_object();

	options_parse(argc, argv, &options);
	for (size_t i = 0; i < ARRAY_SIZE(part_table); i++)
		if (options_want(&options, part_table[i].name))
			json_object_set_new(result, part_table[i].name,
					    part_table[i].measure(&options));
	print_json(result);
	return 0;
}
