#include <errno.h>
#include <string.h>

#include "swap/store_internal.h"

/* Seals each record of a pool segment to @out; readers may look at @ram meanwhile. */
static int seal_segment(struct store_writer *writer, const uint8_t *ram, uint32_t used,
			uint64_t sequence, uint8_t *out)
{
	uint32_t size;

	for (uint32_t at = 0; at < used; at += size) {
		struct cipher_nonce nonce = {sequence, at};
		int result;

		memcpy(&size, ram + at, sizeof(size));
		result = cipher_seal(writer->cipher, nonce, ram + at + RECORD_TAG,
				     size - RECORD_TAG, out + at + RECORD_TAG, out + at);
		if (result)
			return result;
	}
	return 0;
}

/* Takes the oldest segment out of the pool's list. A new sequence number: it is sealed anew. */
static bool take_oldest(struct store *store, uint32_t *index)
{
	struct segment_table *table = &store->segments;
	struct segment *segment;

	pthread_mutex_lock(&store->lock);
	*index = table->pool.first;
	if (*index != SEGMENT_NONE) {
		segment_unlink(table, &table->pool, *index);
		segment = segment_find(table, *index);
		segment->evicting = true;
		segment->sequence = table->next_sequence++;
		store->pool_evicting += segment->ram_size;
	}
	pthread_mutex_unlock(&store->lock);
	return *index != SEGMENT_NONE;
}

/* Back to the pool's list as the oldest, or on to the file. */
static void end(struct store *store, uint32_t index, const struct eviction *written, int result)
{
	struct segment *segment = segment_find(&store->segments, index);
	struct buffer ram;

	pthread_mutex_lock(&store->lock);
	store->evict_error = result;
	store->pool_evicting -= segment->ram_size;
	segment->evicting = false;
	if (written) {
		segment_uncount(&store->segments, segment);
		segment->slot = written->slot;
		segment->cost = written->cost;
		segment->state = SEGMENT_FILE;
		segment_count(&store->segments, segment);
		store->file_reserved -= written->cost;
		store->file_bytes += written->cost;
	} else {
		segment_prepend(&store->segments, &store->segments.pool, index);
	}
	ram = store_settle(store, index);
	pthread_mutex_unlock(&store->lock);
	segment_buffer_put(store, ram);
}

static void give_space_back(struct store *store, const struct eviction *eviction)
{
	store_file_punch(&store->file, slot_offset(eviction->slot), SEGMENT_MAX);
	pthread_mutex_lock(&store->lock);
	store->file_reserved -= eviction->cost;
	slot_give(&store->slots, eviction->slot);
	pthread_mutex_unlock(&store->lock);
}

static int finish(struct store_writer *writer, struct eviction *eviction)
{
	struct store *store = writer->store;
	int result = segment_write_wait(writer, &eviction->write);

	if (result)
		give_space_back(store, eviction);
	else
		atomic_fetch_add(&store->evicted_bytes, eviction->write.request.length);
	eviction->busy = false;
	end(store, eviction->index, result ? NULL : eviction, result);
	return result;
}

/* 0; -ENOENT: the pool has nothing to evict; or why it could not be. */
static int begin(struct store_writer *writer, struct eviction *eviction)
{
	struct store *store = writer->store;
	const struct segment *segment;
	uint32_t got;
	int result = store_writer_prepare(writer);

	if (result)
		return result;
	if (!eviction->buffer)
		eviction->buffer = segment_buffer_get(store, SEGMENT_MAX);
	if (!eviction->buffer)
		return -ENOMEM;
	if (!take_oldest(store, &eviction->index))
		return -ENOENT;
	segment = segment_find(&store->segments, eviction->index);
	eviction->cost = store_file_cost(store, segment->used);
	result = store_take_space(store, (struct store_room){eviction->cost, eviction->cost, 0},
				  &eviction->slot, &got);
	if (result)
		goto keep;
	result = seal_segment(writer, segment->ram, segment->used, segment->sequence,
			      eviction->buffer);
	if (result) {
		give_space_back(store, eviction);
		goto keep;
	}
	eviction->busy = true;
	segment_write_begin(writer, &eviction->write, eviction->buffer, segment->used,
			    eviction->slot);
	return 0;
keep:
	end(store, eviction->index, NULL, result);
	return result;
}

void store_evict_reap(struct store_writer *writer, bool all)
{
	for (unsigned i = 0; i < EVICTIONS_MAX; i++) {
		struct eviction *eviction = &writer->evictions[i];

		if (eviction->busy &&
		    (all || store_io_poll(writer->queue, &eviction->write.request)))
			finish(writer, eviction);
	}
}

/* One that is not busy; waits for the one that was begun first if there is none. */
static struct eviction *next_eviction(struct store_writer *writer)
{
	struct eviction *eviction = &writer->evictions[writer->evict_next];

	writer->evict_next = (writer->evict_next + 1) % EVICTIONS_MAX;
	if (eviction->busy)
		finish(writer, eviction);
	return eviction;
}

int store_evict(struct store_writer *writer)
{
	struct store *store = writer->store;

	store_evict_reap(writer, false);
	for (;;) {
		struct eviction *eviction;
		bool over, failed;
		int result;

		pthread_mutex_lock(&store->lock);
		over = store->pool_bytes - store->pool_evicting > store->config.pool_bytes;
		failed = store->evict_error != 0;
		pthread_mutex_unlock(&store->lock);
		if (!over)
			return 0;
		eviction = next_eviction(writer);
		result = begin(writer, eviction);
		if (result == -ENOENT)
			return 0;
		/* Where the last one failed, the pool must not grow on the hope in the next. */
		if (!result && failed)
			result = finish(writer, eviction);
		if (result)
			return result;
	}
}
