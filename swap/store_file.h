/*
 * The store's file: nameless in a directory (O_TMPFILE, or created and unlinked at once), mode 0600;
 * or a block device, opened for this store alone. Opened for O_DIRECT where that works.
 *
 * Any thread; nothing here changes after opening but the file's length and its errors.
 */
#ifndef EBB_SWAP_STORE_FILE_H
#define EBB_SWAP_STORE_FILE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

/* A file system that wants larger transfers is used through the page cache, not padded for. */
#define STORE_BLOCK_MAX (64u << 10)

struct store_file {
	int fd;
	bool device;
	bool is_borrowed; /* fd is a copy of one that lives longer */
	bool direct;
	uint32_t block; /* offsets and lengths of transfers, and buffers, are multiples of it */
	uint64_t size;  /* of a device; UINT64_MAX: grows as needed */
	pthread_mutex_t extend_lock;
	_Atomic uint64_t length; /* set with the lock held; UINT64_MAX: is no longer looked after */
	pthread_mutex_t sync_lock;
	_Atomic unsigned sync_errors; /* changed with the lock held */
};

/* 0, or -errno with what to do in @err; then there is nothing to close, here and below. */
int store_file_open(const char *path, struct store_file *file, struct error *err);
void store_file_close(struct store_file *file);

/* Like store_reserve() in swap/store.h. */
int store_file_reserve(const char *path, int *fd, struct error *err);

/* As store_file_open(), in what @fd of store_file_reserve(@path) is open on. */
int store_file_reopen(int fd, const char *path, struct store_file *file, struct error *err);

/* Like store_check_path() in swap/store.h. */
int store_file_check(const char *path, struct error *err);

/*
 * Before writing up to @end: makes the file longer, which lets the kernel write to several places at
 * once. Only helps: need not succeed.
 */
void store_file_extend(struct store_file *file, uint64_t end);

/* Gives space back. 0 or -errno; a device that cannot is no failure. */
int store_file_punch(const struct store_file *file, uint64_t offset, uint64_t length);

/*
 * Waits until the disk has what was written, and lets the page cache go: with O_DIRECT there is
 * nothing to do. The file need not survive a power cut: what matters is that no write-back can fail
 * any more. @errors: the file's sync_errors before the write began. 0 or -errno.
 */
int store_file_sync(struct store_file *file, uint64_t offset, uint64_t length, unsigned errors);

/* Lets the page cache of a stretch go that was read. */
void store_file_forget(const struct store_file *file, uint64_t offset, uint64_t length);

#endif
