/*
 * Where swapped-out pages are kept. The pager sees entries, each with an opaque location that fits
 * into a page map word; how large an entry is, how it is coded and where it lies is the store's
 * affair. This store writes pages as they are, one 4 KiB slot each, to a nameless file (O_TMPFILE,
 * mode 0600), so that nothing is left behind however ebb ends. A checksum of each page is held in
 * memory (4 bytes a slot) and verified on every read.
 *
 * A put fills the page cache; only store_sync() says that the disk has taken it. Until then the
 * caller keeps the page: a full or broken disk may show itself as late as that.
 *
 * Threads: put and sync are for one thread at a time (the swap worker); get, drop and the rest for
 * any. An entry's bytes stay as they are until it is dropped.
 */
#ifndef EBB_SWAP_STORE_H
#define EBB_SWAP_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"

typedef uint64_t store_location;

/* Locations fit into 56 bits. */
#define STORE_LOCATION_MAX ((1ull << 56) - 1)

/* The most pages that one put or get takes. */
#define STORE_BATCH_MAX 512u

struct store;

/*
 * Tries whether @dir can hold a store: exists, is writable, gives O_TMPFILE files, has a free page
 * and can punch holes. 0, or -errno with what to do in @err.
 */
int store_check_dir(const char *dir, struct error *err);

/* An empty store in @dir. 0, or -errno with what to do in @err. */
int store_create(const char *dir, struct store **out, struct error *err);

/* Drops everything and gives the space back. NULL is legal. */
void store_destroy(struct store *store);

/*
 * Stores @count pages (STORE_BATCH_MAX at most); pages[i] becomes locations[i]. Returns 0 with all
 * stored; else -errno (-ENOSPC, -EIO, -EDQUOT…) with the first *stored of them stored.
 */
int store_put(struct store *store, const void *const pages[], size_t count,
	      store_location locations[], size_t *stored);

/*
 * Waits until the disk has everything that was put, and lets the page cache go. On -errno, any entry
 * put since the last successful sync may be lost: drop them.
 */
int store_sync(struct store *store);

/*
 * Reads @count entries back: locations[i] to pages[i]. 0; -EBADMSG if a page is not what was put
 * (the file was changed or damaged); -errno. On failure no page is to be trusted.
 */
int store_get(struct store *store, const store_location locations[], size_t count,
	      void *const pages[]);

/* Frees one entry. Quick: its space is given back by store_reclaim(). */
void store_drop(struct store *store, store_location location);

/*
 * Gives back to the file system what some dropped entries occupied, one stretch of the file. True:
 * more is left. May sleep on the file system.
 */
bool store_reclaim(struct store *store);

/* Bytes of live entries, and bytes that the file occupies on disk (allocated blocks). */
uint64_t store_live_bytes(struct store *store);
uint64_t store_disk_bytes(const struct store *store);

#endif
