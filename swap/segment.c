#include "swap/segment.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "swap/store_location.h"

#define CHUNK      1024u
#define CHUNKS_MAX (SEGMENTS_MAX / CHUNK)

_Static_assert(sizeof(struct segment) <= 64, "a segment of a MiB is to cost 64 bytes");

static const struct segment_list empty_list = {SEGMENT_NONE, SEGMENT_NONE};

int segment_table_init(struct segment_table *table)
{
	memset(table, 0, sizeof(*table));
	/* 2 MiB of addresses; of memory only what is used. */
	table->chunks = calloc(CHUNKS_MAX, sizeof(struct segment * _Atomic));
	if (!table->chunks)
		return -ENOMEM;
	table->next_sequence = 1;
	table->free = table->pool = table->dead = empty_list;
	return 0;
}

void segment_table_destroy(struct segment_table *table)
{
	for (uint32_t i = 0; i < table->chunk_count; i++)
		free(atomic_load(&table->chunks[i]));
	free(table->chunks);
	table->chunks = NULL;
}

struct segment *segment_find(const struct segment_table *table, uint32_t index)
{
	struct segment *chunk;

	if (index / CHUNK >= CHUNKS_MAX)
		return NULL;
	chunk = atomic_load_explicit(&table->chunks[index / CHUNK], memory_order_acquire);
	return chunk ? &chunk[index % CHUNK] : NULL;
}

/* What a list or its user names exists. */
static struct segment *linked(const struct segment_table *table, uint32_t index)
{
	struct segment *segment = segment_find(table, index);

	assert(segment);
	return segment;
}

static int grow(struct segment_table *table)
{
	struct segment *chunk;

	if (table->chunk_count == CHUNKS_MAX)
		return -ENOSPC;
	chunk = calloc(CHUNK, sizeof(*chunk));
	if (!chunk)
		return -ENOMEM;
	atomic_store_explicit(&table->chunks[table->chunk_count++], chunk, memory_order_release);
	return 0;
}

int segment_take(struct segment_table *table, uint32_t *index)
{
	struct segment *segment;

	*index = table->free.first;
	if (*index != SEGMENT_NONE) {
		segment_unlink(table, &table->free, *index);
	} else {
		int result = table->count == table->chunk_count * CHUNK ? grow(table) : 0;

		if (result)
			return result;
		*index = table->count++;
	}
	segment = linked(table, *index);
	segment->sequence = table->next_sequence++;
	segment->ram = NULL;
	segment->ram_size = 0;
	segment->slot = SLOT_NONE;
	segment->cost = segment->used = segment->readers = 0;
	segment->live = segment->entries = 0;
	segment->next = segment->previous = SEGMENT_NONE;
	segment->evicting = segment->queued = false;
	segment->victim = false;
	segment->state = SEGMENT_OPEN;
	return 0;
}

void segment_release(struct segment_table *table, uint32_t index)
{
	struct segment *segment = linked(table, index);

	assert(!segment->ram && segment->readers == 0);
	segment->state = SEGMENT_FREE;
	segment->victim = false;
	segment_append(table, &table->free, index);
}

/* @sign: 1 or -1. */
static void add(struct segment_table *table, const struct segment *segment, int sign)
{
	struct segment_sums *sums = &table->sums;
	int64_t live = segment->live, cost = segment->cost;

	if (segment->state == SEGMENT_POOL) {
		sums->entries_pool += (int64_t)sign * segment->entries;
		sums->live_pool += sign * live;
	} else if (segment->state == SEGMENT_FILE) {
		sums->entries_file += (int64_t)sign * segment->entries;
		sums->live_file += sign * live;
		sums->cost_file += sign * cost;
		if (live * 2 < cost)
			sums->dead_in_half_dead += sign * (cost - live);
		if (segment->used < SEGMENT_TINY)
			sums->tiny += sign;
	}
}

void segment_uncount(struct segment_table *table, const struct segment *segment)
{
	add(table, segment, -1);
}

void segment_count(struct segment_table *table, const struct segment *segment)
{
	add(table, segment, 1);
}

static void link_between(struct segment_table *table, struct segment_list *list, uint32_t previous,
			 uint32_t index, uint32_t next)
{
	struct segment *segment = linked(table, index);

	segment->previous = previous;
	segment->next = next;
	if (previous == SEGMENT_NONE)
		list->first = index;
	else
		linked(table, previous)->next = index;
	if (next == SEGMENT_NONE)
		list->last = index;
	else
		linked(table, next)->previous = index;
}

void segment_append(struct segment_table *table, struct segment_list *list, uint32_t index)
{
	link_between(table, list, list->last, index, SEGMENT_NONE);
}

void segment_prepend(struct segment_table *table, struct segment_list *list, uint32_t index)
{
	link_between(table, list, SEGMENT_NONE, index, list->first);
}

void segment_unlink(struct segment_table *table, struct segment_list *list, uint32_t index)
{
	struct segment *segment = linked(table, index);

	if (segment->previous == SEGMENT_NONE)
		list->first = segment->next;
	else
		linked(table, segment->previous)->next = segment->next;
	if (segment->next == SEGMENT_NONE)
		list->last = segment->previous;
	else
		linked(table, segment->next)->previous = segment->previous;
	segment->next = segment->previous = SEGMENT_NONE;
}

uint64_t segment_table_bytes(const struct segment_table *table)
{
	return (uint64_t)table->chunk_count * (CHUNK * sizeof(struct segment) + sizeof(void *));
}
