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
#include <xxhash.h>

#include "vmm/base/io.h"

#define SLOT_SIZE     4096ull
#define BITS_PER_WORD 64u

/* Slots that are punched in one call: bounds how long it sleeps. */
#define RECLAIM_MAX 4096u

/* Slots that lie side by side: one transfer. */
struct slot_run {
	uint64_t first;
	size_t count;
};

struct store {
	int fd;
	/* Bytes put since the last sync; the writer's own. */
	uint64_t unsynced_start, unsynced_end;

	pthread_mutex_t lock; /* guards all below */
	size_t words;         /* of each bitmap */
	uint64_t *used;       /* a bit per slot: live, or dropped and not yet punched */
	uint64_t *dropped;    /* a bit per slot: to be punched */
	uint32_t *checksums;  /* of each live slot's page */
	uint64_t next;        /* where the search for free slots goes on */
	uint64_t live;
	uint64_t dropped_count;
	uint64_t reclaim_next; /* where the search for dropped slots goes on */
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
	free(store->checksums);
	free(store->dropped);
	free(store->used);
	free(store);
}

static bool get_bit(const uint64_t *bitmap, uint64_t slot)
{
	return bitmap[slot / BITS_PER_WORD] >> (slot % BITS_PER_WORD) & 1;
}

static void set_bit(uint64_t *bitmap, uint64_t slot, bool value)
{
	uint64_t bit = 1ull << (slot % BITS_PER_WORD);

	if (value)
		bitmap[slot / BITS_PER_WORD] |= bit;
	else
		bitmap[slot / BITS_PER_WORD] &= ~bit;
}

static void set_bits(uint64_t *bitmap, struct slot_run run, bool value)
{
	for (uint64_t slot = run.first; slot < run.first + run.count; slot++)
		set_bit(bitmap, slot, value);
}

/* The first slot at or after @from, below @slots, whose bit is @value; @slots if there is none. */
static uint64_t find_bit(const uint64_t *bitmap, uint64_t from, uint64_t slots, bool value)
{
	const uint64_t without = value ? 0 : UINT64_MAX;

	while (from < slots) {
		if (from % BITS_PER_WORD == 0 && bitmap[from / BITS_PER_WORD] == without)
			from += BITS_PER_WORD;
		else if (get_bit(bitmap, from) != value)
			from++;
		else
			break;
	}
	return from < slots ? from : slots;
}

/* @array with room for @to elements of @size bytes, those from @from on zero; NULL: as it was. */
static void *grow_array(void *array, size_t from, size_t to, size_t size)
{
	char *grown = realloc(array, to * size);

	if (grown)
		memset(grown + from * size, 0, (to - from) * size);
	return grown;
}

static int grow(struct store *store)
{
	size_t words = store->words ? store->words * 2 : 64;
	size_t slots_before = store->words * BITS_PER_WORD, slots = words * BITS_PER_WORD;
	uint64_t *used, *dropped;
	uint32_t *checksums;

	/* An array that has grown when a later one cannot is only longer than it needs to be. */
	used = grow_array(store->used, store->words, words, sizeof(*used));
	if (!used)
		return -ENOMEM;
	store->used = used;
	dropped = grow_array(store->dropped, store->words, words, sizeof(*dropped));
	if (!dropped)
		return -ENOMEM;
	store->dropped = dropped;
	checksums = grow_array(store->checksums, slots_before, slots, sizeof(*checksums));
	if (!checksums)
		return -ENOMEM;
	store->checksums = checksums;
	store->words = words;
	return 0;
}

/* Takes up to @count free slots that lie side by side. 0 or -ENOMEM. */
static int allocate(struct store *store, size_t count, struct slot_run *run)
{
	uint64_t slots, end;
	int result = 0;

	pthread_mutex_lock(&store->lock);
	slots = (uint64_t)store->words * BITS_PER_WORD;
	run->first = find_bit(store->used, store->next, slots, false);
	/*
	 * At the end: begin again where at least half is free, else grow. So runs stay long, and the
	 * file's length within a small factor of what is live.
	 */
	if (run->first == slots && store->live <= slots / 2 && slots > 0)
		run->first = find_bit(store->used, 0, slots, false);
	if (run->first == slots)
		result = grow(store);
	if (!result) {
		slots = (uint64_t)store->words * BITS_PER_WORD;
		end = run->first + count < slots ? run->first + count : slots;
		run->count = find_bit(store->used, run->first, end, true) - run->first;
		set_bits(store->used, *run, true);
		store->next = run->first + run->count;
		store->live += run->count;
	}
	pthread_mutex_unlock(&store->lock);
	return result;
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

static uint32_t checksum(const void *page)
{
	return (uint32_t)XXH3_64bits(page, SLOT_SIZE);
}

/* What was just written: remembers the checksums, and that a sync is due. */
static void note_written(struct store *store, struct slot_run run, const void *const pages[])
{
	uint64_t start = run.first * SLOT_SIZE, end = start + run.count * SLOT_SIZE;
	uint32_t sums[STORE_BATCH_MAX];

	for (size_t i = 0; i < run.count; i++)
		sums[i] = checksum(pages[i]);
	pthread_mutex_lock(&store->lock);
	memcpy(store->checksums + run.first, sums, run.count * sizeof(sums[0]));
	pthread_mutex_unlock(&store->lock);
	if (store->unsynced_start == store->unsynced_end || start < store->unsynced_start)
		store->unsynced_start = start;
	if (end > store->unsynced_end)
		store->unsynced_end = end;
}

int store_put(struct store *store, const void *const pages[], size_t count,
	      store_location locations[], size_t *stored)
{
	assert(count <= STORE_BATCH_MAX);
	*stored = 0;
	while (*stored < count) {
		struct slot_run run = {0, 0};
		int result = allocate(store, count - *stored, &run);

		if (result)
			return result;
		result = transfer(store->fd, run, (void *const *)(pages + *stored), true);
		if (result) {
			/* Whatever part was written takes disk space: it is reclaimed. */
			for (size_t i = 0; i < run.count; i++)
				store_drop(store, run.first + i);
			return result;
		}
		note_written(store, run, pages + *stored);
		for (size_t i = 0; i < run.count; i++)
			locations[*stored + i] = run.first + i;
		*stored += run.count;
	}
	return 0;
}

int store_sync(struct store *store)
{
	off_t start = (off_t)store->unsynced_start;
	off_t length = (off_t)(store->unsynced_end - store->unsynced_start);
	int result = 0;

	if (length == 0)
		return 0;
	/*
	 * The file need not survive a power cut, so its metadata and the disk's own cache do not
	 * matter: what matters is that write-back cannot fail any more.
	 */
	if (sync_file_range(store->fd, start, length,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				    SYNC_FILE_RANGE_WAIT_AFTER)) {
		result = -errno;
		if (result == -ENOSYS || result == -EINVAL || result == -ESPIPE)
			result = fdatasync(store->fd) ? -errno : 0;
	}
	/* Swapping out is to free RAM, not to move it to the page cache. */
	posix_fadvise(store->fd, start, length, POSIX_FADV_DONTNEED);
	store->unsynced_start = store->unsynced_end = 0;
	return result;
}

/* 0, or -EBADMSG if a page of @run differs from what was put there. */
static int verify(struct store *store, struct slot_run run, void *const pages[])
{
	uint32_t expected[STORE_BATCH_MAX];

	pthread_mutex_lock(&store->lock);
	memcpy(expected, store->checksums + run.first, run.count * sizeof(expected[0]));
	pthread_mutex_unlock(&store->lock);
	for (size_t i = 0; i < run.count; i++)
		if (checksum(pages[i]) != expected[i])
			return -EBADMSG;
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
		if (!result)
			result = verify(store, run, pages + done);
		if (result)
			return result;
		done += run.count;
	}
	return 0;
}

void store_drop(struct store *store, store_location location)
{
	pthread_mutex_lock(&store->lock);
	assert(get_bit(store->used, location) && !get_bit(store->dropped, location));
	set_bit(store->dropped, location, true);
	store->dropped_count++;
	store->live--;
	pthread_mutex_unlock(&store->lock);
}

bool store_reclaim(struct store *store)
{
	struct slot_run run;
	uint64_t slots, end;
	bool more;

	pthread_mutex_lock(&store->lock);
	if (store->dropped_count == 0) {
		pthread_mutex_unlock(&store->lock);
		return false;
	}
	slots = (uint64_t)store->words * BITS_PER_WORD;
	run.first = find_bit(store->dropped, store->reclaim_next, slots, true);
	if (run.first == slots)
		run.first = find_bit(store->dropped, 0, slots, true);
	end = run.first + RECLAIM_MAX < slots ? run.first + RECLAIM_MAX : slots;
	run.count = find_bit(store->dropped, run.first, end, false) - run.first;
	set_bits(store->dropped, run, false);
	store->dropped_count -= run.count;
	store->reclaim_next = run.first + run.count;
	pthread_mutex_unlock(&store->lock);

	/*
	 * The slots stay used until the hole is punched, so that nobody is given a slot whose data
	 * would then be punched away. One that could not be punched is still free to be used again.
	 */
	punch(store->fd, run);
	pthread_mutex_lock(&store->lock);
	set_bits(store->used, run, false);
	more = store->dropped_count > 0;
	pthread_mutex_unlock(&store->lock);
	return more;
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
