/*
 * What the parts of the store share: store.c (life, drops, usage), store_write.c and store_evict.c
 * (writers), store_read.c (readers), store_space.c (reclaim, compaction).
 *
 * The lock guards the segment table, the slot map and the sums below it. Whoever changes a segment
 * so that it may have become free calls store_settle() with the lock held, and frees the buffer that
 * it returns without.
 */
#ifndef EBB_SWAP_STORE_INTERNAL_H
#define EBB_SWAP_STORE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "swap/cipher.h"
#include "swap/codec.h"
#include "swap/segment.h"
#include "swap/slot_map.h"
#include "swap/store.h"
#include "swap/store_file.h"
#include "swap/store_io.h"
#include "swap/store_location.h"

/* Whole segment buffers that are kept to be used again, while there are writers. */
#define SPARE_BUFFERS 4u

/* Segments of one writer that may be on their way from the pool to the file at once. */
#define EVICTIONS_MAX 2u

struct store {
	struct store_config config; /* without path */
	bool has_file;
	struct store_file file;
	struct store_io *io;
	struct cipher_key *key;

	_Atomic int64_t entries_filled;
	_Atomic int64_t ram_bytes; /* buffers and contexts */
	_Atomic uint64_t written_bytes, read_bytes, evicted_bytes;

	pthread_mutex_t reclaim_lock; /* held while dead segments are given back; before lock */

	pthread_mutex_t lock; /* guards all below */
	struct segment_table segments;
	struct slot_map slots;
	uint64_t reserve;       /* of the limit, or of a pool alone: for compaction */
	uint64_t file_bytes;    /* that segments take of the file, dead ones too */
	uint64_t file_reserved; /* that open segments may take */
	uint64_t reclaims;      /* how often dead segments were given back */
	uint64_t pool_bytes;    /* RAM of sealed segments */
	uint64_t pool_reserved; /* that open segments may take */
	uint64_t pool_evicting; /* of pool_bytes: on its way to the file */
	int evict_error;        /* the last eviction's result */
	unsigned writers;
	void *spare[SPARE_BUFFERS];
	unsigned spares;
};

struct buffer {
	void *bytes; /* NULL: none */
	size_t size;
};

/* ---- store.c ---- */

/* A writer comes or goes. The last one takes the spare buffers with it. */
void store_add_writer(struct store *store);
void store_remove_writer(struct store *store);

/* Buffers of segments, counted in ram_bytes; whole ones are used again. */
void *segment_buffer_get(struct store *store, size_t size);
void segment_buffer_put(struct store *store, struct buffer buffer);

/* With the lock held: moves a segment that nobody uses any more on. Returns RAM to be freed. */
struct buffer store_settle(struct store *store, uint32_t index);

/* Bytes that @used bytes of records take of the file. */
static inline uint32_t store_file_cost(const struct store *store, uint32_t used)
{
	uint32_t block = store->file.block;

	return store->file.device ? SEGMENT_MAX : (used + block - 1) & ~(block - 1);
}

static inline uint64_t slot_offset(uint32_t slot)
{
	return (uint64_t)slot * SEGMENT_MAX;
}

/* ---- store_space.c ---- */

/* Bytes of the file that somebody wants. */
struct store_room {
	uint32_t need, want; /* at least, at best */
	uint64_t left;       /* to be left of the limit */
};

/*
 * Reserves room, and a slot; *got is at least what is needed. 0; -EDQUOT: the limit; -ENOSPC: the
 * device is full; -ENOMEM. Gives dead segments back when there is too little.
 */
int store_take_space(struct store *store, struct store_room room, uint32_t *slot, uint32_t *got);

/* ---- store_write.c ---- */

/* The records of a segment, on their way to the file. */
struct segment_write {
	struct store_io_request request;
	unsigned sync_errors; /* of the file, before it was submitted */
};

/* Of the writer's, in store_evict.c: a segment on its way from the pool to the file. */
struct eviction {
	bool busy;
	uint32_t index;
	uint32_t slot;
	uint32_t cost;
	uint8_t *buffer; /* of a whole segment; kept */
	struct segment_write write;
};

/* A sealed parcel. */
struct parcel {
	bool busy;
	bool to_file;
	uint32_t index; /* SEGMENT_NONE: all its pages were filled ones */
	uint32_t cost;
	struct segment_write write; /* to_file, as is the buffer */
	struct buffer buffer;
};

struct store_writer {
	struct store *store;
	struct codec *codec;
	struct cipher *cipher;        /* made when first needed */
	struct store_io_queue *queue; /* likewise */

	bool uses_reserve;

	/* The open parcel. */
	bool appended;
	uint32_t index; /* of its segment; SEGMENT_NONE: none yet */
	uint8_t *bytes;
	uint32_t capacity;
	uint32_t used;
	int32_t entries;
	uint64_t sequence;

	struct parcel parcels[STORE_PARCELS_MAX];
	void *spare; /* a whole segment buffer */
	struct eviction evictions[EVICTIONS_MAX];
	unsigned evict_next; /* the oldest of those that are busy is this one, or a later one */
};

/* 0 or -errno: with cipher and queue. */
int store_writer_prepare(struct store_writer *writer);

/*
 * Begins to write the first @used bytes of @buffer, which has room for a whole segment, to @slot. The
 * rest of the last block is zeroed. The buffer is not touched until segment_write_wait().
 */
void segment_write_begin(struct store_writer *writer, struct segment_write *write, uint8_t *buffer,
			 uint32_t used, uint32_t slot);
/* Sleeps until the disk has it. 0 or -errno. */
int segment_write_wait(struct store_writer *writer, struct segment_write *write);

/* ---- store_evict.c: the writer's side of a full pool ---- */

/* Begins to evict until the pool is within its size. 0, or why a segment could not be evicted. */
int store_evict(struct store_writer *writer);
/* Takes note of evictions that are complete; @all: waits for the others. */
void store_evict_reap(struct store_writer *writer, bool all);

#endif
