#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/contents_kinds.h"
#include "tests/bench/reference.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

#define BLOCK      (1 * MIB)
#define PAGE       4096u
#define QUEUE      4
#define FILE_MAX   (1 * GIB)
#define RANDOM_MAX 2000

struct transfer {
	int fd;
	uint64_t size;
	bool write;
	atomic_uint_fast64_t next;
	atomic_int error;
};

static uint8_t *random_block(void)
{
	struct random random = {7};
	uint64_t *words = aligned_alloc(PAGE, BLOCK);

	if (!words)
		die("no memory");
	for (size_t i = 0; i < BLOCK / sizeof(*words); i++)
		words[i] = random_next(&random);
	return (uint8_t *)words;
}

/* One of the blocks in flight. */
static void *transfer_blocks(void *arg)
{
	struct transfer *transfer = arg;
	uint8_t *block = random_block();
	uint64_t at;

	while ((at = atomic_fetch_add(&transfer->next, BLOCK)) < transfer->size) {
		ssize_t length = transfer->write ? pwrite(transfer->fd, block, BLOCK, (off_t)at)
						 : pread(transfer->fd, block, BLOCK, (off_t)at);

		if (length != (ssize_t)BLOCK) {
			transfer->error = length < 0 ? errno : EIO;
			break;
		}
	}
	free(block);
	return NULL;
}

/* Bytes per second; 0 or -errno in *error. */
static double transfer_all(int fd, uint64_t size, bool write, int *error)
{
	struct transfer transfer = {.fd = fd, .size = size, .write = write};
	pthread_t threads[QUEUE];
	uint64_t start = clock_monotonic_ns();

	for (int i = 0; i < QUEUE; i++)
		if (pthread_create(&threads[i], NULL, transfer_blocks, &transfer))
			die("cannot start a thread");
	for (int i = 0; i < QUEUE; i++)
		pthread_join(threads[i], NULL);
	*error = -transfer.error;
	return (double)size * 1e9 / (double)(clock_monotonic_ns() - start);
}

static json_t *read_random_pages(int fd, uint64_t size)
{
	uint8_t *page = aligned_alloc(PAGE, PAGE);
	struct random random = {11};
	struct samples samples;
	json_t *result;

	samples_create(&samples, RANDOM_MAX);
	for (int i = 0; page && i < RANDOM_MAX; i++) {
		off_t at = (off_t)(random_next(&random) % (size / PAGE) * PAGE);
		uint64_t start = clock_monotonic_ns();

		if (pread(fd, page, PAGE, at) == PAGE)
			samples_add(&samples, clock_monotonic_ns() - start);
	}
	free(page);
	result = samples_json(&samples, 0);
	samples_destroy(&samples);
	return result;
}

static int open_nameless(const char *directory)
{
	char path[4096];
	int fd = open(directory, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	snprintf(path, sizeof(path), "%s/ebb-bench-XXXXXX", directory);
	fd = mkostemp(path, O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

json_t *reference_disk(const struct bench_options *options)
{
	uint64_t size = options->size < FILE_MAX ? options->size : FILE_MAX;
	int fd = open_nameless(options->directory), error;
	double fresh = 0, write = 0, read = 0;
	json_t *result;

	size -= size % BLOCK;
	if (fd < 0)
		return reference_skipped("%s: O_DIRECT: %s", options->directory, strerror(errno));
	error = -posix_fallocate(fd, 0, (off_t)size);
	if (!error)
		fresh = transfer_all(fd, size, true, &error);
	/* Again, now that the file system has nothing to do any more. */
	if (!error)
		write = transfer_all(fd, size, true, &error);
	if (!error)
		read = transfer_all(fd, size, false, &error);
	if (error) {
		close(fd);
		return reference_skipped("%s: %s", options->directory, strerror(-error));
	}
	result = json_pack("{s:f,s:f,s:f}", "fresh_write_bytes_per_s", fresh, "write_bytes_per_s",
			   write, "read_bytes_per_s", read);
	json_object_set_new(result, "random", read_random_pages(fd, size));
	close(fd);
	return result;
}
