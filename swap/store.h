/*
 * Where swapped-out pages are kept: compressed, encrypted, in memory (the *pool*) or in a file.
 *
 * Pages are appended as *records* (a tag, then the compressed page, in units of 16 bytes) to
 * *segments* of 1 MiB. A full segment is *sealed*: it goes to the pool while there is room, else to
 * the file; a full pool evicts its oldest segments to the file. A location names segment, offset and
 * length, and stays what it is when the segment moves. A page that repeats one 64-bit value takes no
 * space: where the value fits, the location itself says it.
 *
 * In the file, records are AES-256-GCM ciphertext under a key that lives only in locked memory and
 * dies with the store; the nonce is the segment's sequence number, which is never given twice, and
 * the offset of the record. Without encryption the tag is a checksum over the same. Either way a
 * record that is not exactly what was written there last is found out: -EBADMSG. What is in the pool
 * is as trustworthy as the rest of ebb's memory and is neither encrypted nor checked.
 *
 * The file has no name (O_TMPFILE, or created and unlinked at once; mode 0600), or is a block
 * device. It is read and written with O_DIRECT where the file system can, so that swapping out does
 * not fill the page cache instead; elsewhere each segment is synced and dropped from the cache.
 *
 * Space: a segment without live records is freed at once (its part of the file by store_reclaim()).
 * Sparse ones are *compacted* by the store's user, who knows which page a record belongs to: it
 * moves the pages whose location store_is_victim(), and drops the old ones.
 *
 * Threads: everything on one writer or one reader is for one thread at a time; the rest for any.
 * Locks inside are held for a look at the tables only, never over I/O, compression or copying.
 */
#ifndef EBB_SWAP_STORE_H
#define EBB_SWAP_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swap/store_config.h"
#include "vmm/base/error.h"

typedef uint64_t store_location;

/* Locations fit into 56 bits. */
#define STORE_LOCATION_MAX ((1ull << 56) - 1)

/* The most pages that one read takes. */
#define STORE_BATCH_MAX 512u

/* Sealed parcels of one writer that may be under way at once. */
#define STORE_PARCELS_MAX 2u

/* Reads of one reader that may be under way at once. */
#define STORE_READS_MAX 2u

/* Where an entry is: decides what reading it costs. */
enum store_place {
	STORE_PLACE_NOWHERE, /* a filled page: in the location itself */
	STORE_PLACE_POOL,
	STORE_PLACE_FILE,
};

struct store;
struct store_writer;
struct store_reader;

/*
 * Tries whether @path can hold a store: a directory that is writable, with a free page, whose file
 * system punches holes; or a block device that is writable, not mounted and has room for a segment.
 * 0, or -errno with what to do in @err.
 */
int store_check_path(const char *path, struct error *err);

/*
 * Opens what the store is going to be in, for store_config.fd: one store after the other can be made
 * in it without opening anything. *fd is the caller's. 0, or -errno with what to do in @err.
 */
int store_reserve(const char *path, int *fd, struct error *err);

/* An empty store. @config is copied. 0, or -errno with what to do in @err. */
int store_create(const struct store_config *config, struct store **out, struct error *err);

/* Drops everything and gives the space back. All readers and writers are gone. NULL is legal. */
void store_destroy(struct store *store);

/* ---- writing ---- */

/* 0, -ENOMEM, or what setting up its I/O said. */
int store_writer_create(struct store *store, struct store_writer **out);

/*
 * The writer moves what is stored already, and may use the room that is kept free of the limit, or of a
 * pool that is alone, for just that: a full store could not be compacted otherwise.
 */
void store_writer_use_reserve(struct store_writer *writer);

/* Waits for what is under way. Entries of parcels that were not waited for do not count. NULL is
 * legal. */
void store_writer_destroy(struct store_writer *writer);

/*
 * Appends @page to the writer's open parcel: a segment's worth of pages. The entry exists from now on
 * and counts when its parcel has been waited for. 0 with *location; -ENOBUFS: the parcel is full,
 * seal it and append again; -ENOMEM: no memory for a parcel; -EDQUOT: the limit is reached, or there
 * is no file and the pool is full.
 */
int store_append(struct store_writer *writer, const void *page, store_location *location);

/*
 * Ends the open parcel and begins to write it. True with *parcel, a number below STORE_PARCELS_MAX
 * that is free again after store_wait(); false: nothing was appended. At most STORE_PARCELS_MAX
 * parcels may be under way: wait for the oldest before sealing another.
 */
bool store_seal(struct store_writer *writer, unsigned *parcel);

/*
 * Waits until a sealed parcel is safe: in the pool, or taken by the disk. 0; on -errno (-ENOSPC,
 * -EDQUOT, -EIO…) none of its entries counts: drop them.
 */
int store_wait(struct store_writer *writer, unsigned parcel);

/* True if pages may change while they are appended: what is stored is some mixture then. */
bool store_takes_changing_pages(const struct store *store);

/* ---- reading ---- */

int store_reader_create(struct store *store, struct store_reader **out);
void store_reader_destroy(struct store_reader *reader);

/*
 * Reads @count entries (STORE_BATCH_MAX at most): locations[i] to pages[i]. Entries that lie side by
 * side in the file are read in one transfer. 0; -EBADMSG: an entry is not what was put (damaged,
 * changed, or dropped meanwhile); -errno. On failure no page is to be trusted.
 */
int store_read(struct store_reader *reader, const store_location locations[], size_t count,
	       void *const pages[]);

/*
 * The same in two steps: begin submits the transfers and returns, finish waits and fills the pages.
 * begin: 0 or -errno, with *read below STORE_READS_MAX; each begun read must be finished.
 */
int store_read_begin(struct store_reader *reader, const store_location locations[], size_t count,
		     unsigned *read);
int store_read_finish(struct store_reader *reader, unsigned read, void *const pages[]);

/* Where the entry is now. A hint: it may move. */
enum store_place store_place(struct store *store, store_location location);

/* True if @next lies directly behind @location, so that one transfer reads both. */
bool store_adjacent(store_location location, store_location next);

/* ---- space ---- */

/* Frees one entry. Quick. */
void store_drop(struct store *store, store_location location);

/* Gives freed parts of the file back, a segment at a time. True: more is left. May sleep. */
bool store_reclaim(struct store *store);

/* True if compaction would pay: the file or the pool holds much more than is live. Cheap. */
bool store_is_sparse(struct store *store);

/*
 * Marks the sparsest segments (64 MiB of live data at most) as victims; those marked before and not
 * emptied are marked again or released. Returns their number.
 */
size_t store_pick_victims(struct store *store);
bool store_is_victim(struct store *store, store_location location);

void store_get_usage(struct store *store, struct store_usage *usage);

const char *store_compression_name(enum store_compression compression);

#endif
