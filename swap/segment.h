/*
 * The table of a store's segments: what state each is in, what it holds, where it lies. Sums over
 * the table are kept up to date with every change.
 *
 * An index is given out again once its segment is free; a sequence number never. The table has no
 * lock of its own: all of it is used with the store's lock held, except what says otherwise.
 *
 * Life: OPEN (a writer appends) -> WRITING (sealed, not yet waited for) -> POOL or FILE, or FAILED;
 * POOL -> FILE (evicted). When nothing is live any more: DEAD (waits for its part of the file to be
 * given back, or for readers to let go of its RAM) -> FREE.
 */
#ifndef EBB_SWAP_SEGMENT_H
#define EBB_SWAP_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SEGMENT_NONE UINT32_MAX
#define SLOT_NONE    UINT32_MAX

/* A segment in the file that holds less counts as tiny. */
#define SEGMENT_TINY (128u << 10)

enum segment_state {
	SEGMENT_FREE,
	SEGMENT_OPEN,
	SEGMENT_WRITING,
	SEGMENT_FAILED,
	SEGMENT_POOL,
	SEGMENT_FILE,
	SEGMENT_DEAD,
};

struct segment {
	uint64_t sequence;
	uint8_t *ram; /* records that are not encrypted; NULL: none */
	uint32_t ram_size;
	uint32_t slot;    /* of the file; SLOT_NONE: none */
	uint32_t cost;    /* bytes that it takes of the file */
	uint32_t used;    /* bytes of records, dropped ones too */
	int32_t live;     /* bytes of records; below 0 while its writer has not counted them yet */
	int32_t entries;  /* likewise */
	uint32_t readers; /* that look at ram */
	uint32_t next;    /* in the list that it is on */
	uint32_t previous;
	bool evicting;
	bool queued; /* DEAD: on the list of those to be given back */
	/* Read without the lock too. */
	_Atomic uint8_t state;
	_Atomic bool victim;
};

struct segment_list {
	uint32_t first, last;
};

/* Over the segments in the POOL and in the FILE. Bytes, but for the counts. */
struct segment_sums {
	int64_t entries_pool;
	int64_t entries_file;
	int64_t live_pool;
	int64_t live_file;
	int64_t cost_file;
	int64_t dead_in_half_dead; /* dead bytes of those in the file that are less than half live */
	int64_t tiny;              /* how many in the file are tiny */
};

struct segment_table {
	struct segment *_Atomic *chunks;
	uint32_t count; /* indices that were ever given out */
	uint32_t chunk_count;
	uint64_t next_sequence;
	struct segment_list free;
	struct segment_list pool; /* the oldest first */
	struct segment_list dead; /* to be given back */
	struct segment_sums sums;
};

/* 0 or -ENOMEM. */
int segment_table_init(struct segment_table *table);
void segment_table_destroy(struct segment_table *table);

/* An OPEN segment, empty. 0; -ENOMEM; -ENOSPC: the table is full. */
int segment_take(struct segment_table *table, uint32_t *index);
void segment_release(struct segment_table *table, uint32_t index);

/* NULL: there is none with this index. Any thread, without the lock. */
struct segment *segment_find(const struct segment_table *table, uint32_t index);

/* Around every change of state, live, entries or cost: takes it out of the sums, and in again. */
void segment_uncount(struct segment_table *table, const struct segment *segment);
void segment_count(struct segment_table *table, const struct segment *segment);

/* @list is one of the table's; a segment is on one at most. */
void segment_append(struct segment_table *table, struct segment_list *list, uint32_t index);
void segment_prepend(struct segment_table *table, struct segment_list *list, uint32_t index);
void segment_unlink(struct segment_table *table, struct segment_list *list, uint32_t index);

/* Bytes of memory that the table takes. */
uint64_t segment_table_bytes(const struct segment_table *table);

#endif
