#include "swap/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/base/io.h"

#define SLOT_SIZE     4096ull
#define BITS_PER_WORD 64u

/* Slots that lie side by side: one transfer. */
struct slot_run {
	uint64_t first;
	size_t count;
};

struct store {
	int fd;
	pthread_mutex_t lock; /* guards all below */
	uint64_t *used;       /* a bit per slot: live, or dropped and not yet punched */
	size_t used_words;
	uint64_t next; /* where the search for free slots goes on */
	uint64_t live;
	struct slot_run dropped; /* not yet punched */
};

static int open_nameless(const char *dir, struct error *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case ENOENT:
		return error_say(
			err, ENOENT,
			"swap directory %s: does not exist; create it: mkdir -p -m 0700 %s", dir,
			dir);
	case ENOTDIR:
		return error_say(err, ENOTDIR,
				 "swap directory %s: is not a directory; give the directory that "
				 "the store file shall be made in",
				 dir);
	/* EISDIR: what kernels say that know nothing of O_TMPFILE there (open(2)). */
	case EISDIR:
	case EOPNOTSUPP:
		return error_say(err, EOPNOTSUPP,
				 "swap directory %s: its file system has no O_TMPFILE; use one on "
				 "ext4, xfs, btrfs or tmpfs",
				 dir);
	case EACCES:
		return error_say(err, EACCES,
				 "swap directory %s: permission denied; give yourself write access "
				 "to it or choose another",
				 dir);
	default:
		return error_errno(err, errno, "swap directory %s", dir);
	}
}

static int punch(int fd, struct slot_run run)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(run.first * SLOT_SIZE), (off_t)(run.count * SLOT_SIZE))
		       ? -errno
		       : 0;
}

int store_check_dir(const char *dir, struct error *err)
{
	static const uint8_t page[SLOT_SIZE];
	int fd = open_nameless(dir, err);
	int result;

	if (fd < 0)
		return fd;
	result = io_pwrite_full(fd, page, sizeof(page), 0);
	/* Some file systems tell of a full disk only when data is really placed. */
	if (!result && fdatasync(fd))
		result = -errno;
	if (result) {
		error_errno(err, -result, "swap directory %s: writing one page (see df -h %s)", dir,
			    dir);
		goto close_fd;
	}
	result = punch(fd, (struct slot_run){0, 1});
	if (result)
		error_errno(
			err, -result,
			"swap directory %s: its file system cannot punch holes; use one on ext4, "
			"xfs, btrfs or tmpfs",
			dir);
close_fd:
	close(fd);
	return result;
}

int store_create(const char *dir, struct store **out, struct error *err)
{
	struct store *store = calloc(1, sizeof(*store));
	int result;

	if (!store)
		return error_errno(err, ENOMEM, "swap store");
	store->fd = open_nameless(dir, err);
	if (store->fd < 0) {
		result = store->fd;
		free(store);
		return result;
	}
	pthread_mutex_init(&store->lock, NULL);
	*out = store;
	return 0;
}

void store_destroy(struct store *store)
{
	if (!store)
		return;
	close(store->fd);
	pthread_mutex_destroy(&store->lock);
	free(store->used);
	free(store);
}

static bool is_used(const struct store *store, uint64_t slot)
{
	return store->used[slot / BITS_PER_WORD] >> (slot % BITS_PER_WORD) & 1;
}

static void set_used(struct store *store, struct slot_run run, bool used)
{
	for (uint64_t slot = run.first; slot < run.first + run.count; slot++) {
		uint64_t bit = 1ull << (slot % BITS_PER_WORD);

		if (used)
			store->used[slot / BITS_PER_WORD] |= bit;
		else
			store->used[slot / BITS_PER_WORD] &= ~bit;
	}
}

static int grow(struct store *store)
{
	size_t words = store->used_words ? store->used_words * 2 : 64;
	uint64_t *grown = realloc(store->used, words * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	memset(grown + store->used_words, 0, (words - store->used_words) * sizeof(*grown));
	store->used = grown;
	store->used_words = words;
	return 0;
}

/* The next free slot at or after @from, looking at whole words where they are full. */
static uint64_t find_free(const struct store *store, uint64_t from)
{
	uint64_t slots = (uint64_t)store->used_words * BITS_PER_WORD;

	while (from < slots) {
		if (from % BITS_PER_WORD == 0 && store->used[from / BITS_PER_WORD] == UINT64_MAX)
			from += BITS_PER_WORD;
		else if (is_used(store, from))
			from++;
		else
			break;
	}
	return from < slots ? from : slots;
}

/* Takes up to @count free slots that lie side by side. 0 or -ENOMEM. */
static int allocate(struct store *store, size_t count, struct slot_run *run)
{
	uint64_t slots;
	int result = 0;

	pthread_mutex_lock(&store->lock);
	slots = (uint64_t)store->used_words * BITS_PER_WORD;
	run->first = find_free(store, store->next);
	/*
	 * At the end: begin again where at least half is free, else grow. So runs stay long, and
	 * the file's length within a small factor of what is live.
	 */
	if (run->first == slots && store->live <= slots / 2 && slots > 0)
		run->first = find_free(store, 0);
	if (run->first == slots)
		result = grow(store);
	if (!result) {
		slots = (uint64_t)store->used_words * BITS_PER_WORD;
		run->count = 1;
		while (run->count < count && run->first + run->count < slots &&
		       !is_used(store, run->first + run->count))
			run->count++;
		set_used(store, *run, true);
		store->next = run->first + run->count;
		store->live += run->count;
	}
	pthread_mutex_unlock(&store->lock);
	return result;
}

static void release(struct store *store, struct slot_run run)
{
	pthread_mutex_lock(&store->lock);
	set_used(store, run, false);
	pthread_mutex_unlock(&store->lock);
}

/* Moves a run of slots between the file and pages, as few system calls as the pages allow. */
static int transfer(int fd, struct slot_run run, void *const pages[], bool write)
{
	struct iovec iov[STORE_BATCH_MAX];
	size_t used = 0, next = 0;
	off_t offset = (off_t)(run.first * SLOT_SIZE);

	for (size_t i = 0; i < run.count; i++) {
		if (used > 0 &&
		    (char *)iov[used - 1].iov_base + iov[used - 1].iov_len == (char *)pages[i])
			iov[used - 1].iov_len += SLOT_SIZE;
		else
			iov[used++] = (struct iovec){pages[i], SLOT_SIZE};
	}
	while (next < used) {
		ssize_t moved = write ? pwritev(fd, iov + next, (int)(used - next), offset)
				      : preadv(fd, iov + next, (int)(used - next), offset);

		if (moved < 0 && errno == EINTR)
			continue;
		if (moved <= 0)
			return moved < 0 ? -errno : -EIO;
		offset += moved;
		while (next < used && (size_t)moved >= iov[next].iov_len)
			moved -= (ssize_t)iov[next++].iov_len;
		if (next < used) {
			iov[next].iov_base = (char *)iov[next].iov_base + moved;
			iov[next].iov_len -= (size_t)moved;
		}
	}
	return 0;
}

int store_put(struct store *store, const void *const pages[], size_t count,
	      store_location locations[], size_t *stored)
{
	assert(count <= STORE_BATCH_MAX);
	*stored = 0;
	while (*stored < count) {
		struct slot_run run;
		int result = allocate(store, count - *stored, &run);

		if (result)
			return result;
		result = transfer(store->fd, run, (void *const *)(pages + *stored), true);
		if (result) {
			/* Whatever part was written takes disk space: give it back. */
			punch(store->fd, run);
			release(store, run);
			pthread_mutex_lock(&store->lock);
			store->live -= run.count;
			pthread_mutex_unlock(&store->lock);
			return result;
		}
		for (size_t i = 0; i < run.count; i++)
			locations[*stored + i] = run.first + i;
		*stored += run.count;
	}
	return 0;
}

int store_get(struct store *store, const store_location locations[], size_t count,
	      void *const pages[])
{
	size_t done = 0;

	assert(count <= STORE_BATCH_MAX);
	while (done < count) {
		struct slot_run run = {locations[done], 1};
		int result;

		while (done + run.count < count &&
		       locations[done + run.count] == run.first + run.count)
			run.count++;
		result = transfer(store->fd, run, pages + done, false);
		if (result)
			return result;
		done += run.count;
	}
	return 0;
}

/*
 * The slots stay used until the hole is punched, so that nobody is given a slot whose data would
 * then be punched away. Called without the lock.
 */
static void punch_and_release(struct store *store, struct slot_run run)
{
	if (run.count == 0)
		return;
	/* A slot that could not be punched is still free to be used again. */
	punch(store->fd, run);
	release(store, run);
}

void store_drop(struct store *store, store_location location)
{
	struct slot_run complete = {0, 0};

	pthread_mutex_lock(&store->lock);
	store->live--;
	if (store->dropped.count > 0 && location == store->dropped.first + store->dropped.count) {
		store->dropped.count++;
	} else {
		complete = store->dropped;
		store->dropped = (struct slot_run){location, 1};
	}
	pthread_mutex_unlock(&store->lock);
	punch_and_release(store, complete);
}

void store_flush(struct store *store)
{
	struct slot_run complete;

	pthread_mutex_lock(&store->lock);
	complete = store->dropped;
	store->dropped = (struct slot_run){0, 0};
	pthread_mutex_unlock(&store->lock);
	punch_and_release(store, complete);
}

uint64_t store_live_bytes(struct store *store)
{
	uint64_t live;

	pthread_mutex_lock(&store->lock);
	live = store->live;
	pthread_mutex_unlock(&store->lock);
	return live * SLOT_SIZE;
}

uint64_t store_disk_bytes(const struct store *store)
{
	struct stat info;

	return fstat(store->fd, &info) ? 0 : (uint64_t)info.st_blocks * 512;
}
