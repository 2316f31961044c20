#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "swap/store_internal.h"
#include "vmm/base/size.h"

/* A page whose record would be larger than this is kept as it is: the time is not worth the space. */
#define COMPRESSED_MAX ((size_t)STORE_PAGE / 8 * 7)

/* The end of a pool segment's buffer is given back if that saves as much. */
#define TRIM_MIN (64 * KIB)

/* Two parcels and two evictions. */
#define WRITER_DEPTH 4u

int store_writer_create(struct store *store, struct store_writer **out)
{
	struct store_writer *writer = calloc(1, sizeof(*writer));
	int result;

	if (!writer)
		return -ENOMEM;
	writer->store = store;
	store_add_writer(store);
	writer->index = SEGMENT_NONE;
	result = codec_create(store->config.compression, store->config.level, &writer->codec);
	if (!result && store->has_file && store->config.pool_bytes == 0)
		result = store_writer_prepare(writer);
	if (result) {
		store_writer_destroy(writer);
		return result;
	}
	*out = writer;
	return 0;
}

void store_writer_use_reserve(struct store_writer *writer)
{
	writer->uses_reserve = true;
}

int store_writer_prepare(struct store_writer *writer)
{
	int result = 0;

	if (!writer->cipher)
		result = cipher_create(writer->store->key, true, &writer->cipher);
	if (!result && !writer->queue)
		result = store_io_queue_create(writer->store->io, WRITER_DEPTH, &writer->queue);
	return result;
}

/* ---- on the way to the file ---- */

void segment_write_begin(struct store_writer *writer, struct segment_write *write, uint8_t *buffer,
			 uint32_t used, uint32_t slot)
{
	struct store_file *file = &writer->store->file;
	uint32_t length = (used + file->block - 1) & ~(file->block - 1);
	uint64_t offset = slot_offset(slot);

	memset(buffer + used, 0, length - used);
	write->request = (struct store_io_request){
		.buffer = buffer,
		.length = length,
		.offset = offset,
		.write = true,
	};
	write->sync_errors = atomic_load(&file->sync_errors);
	store_file_extend(file, offset + SEGMENT_MAX);
	store_io_submit(writer->queue, &write->request);
	store_io_kick(writer->queue);
}

int segment_write_wait(struct store_writer *writer, struct segment_write *write)
{
	struct store *store = writer->store;
	const struct store_io_request *request = &write->request;
	int result = store_io_wait(writer->queue, &write->request);

	if (!result)
		result = store_file_sync(&store->file, request->offset, request->length,
					 write->sync_errors);
	if (!result)
		atomic_fetch_add(&store->written_bytes, request->length);
	return result;
}

/* ---- the open parcel ---- */

static bool to_file(const struct store *store)
{
	return store->config.pool_bytes == 0;
}

/* Reserves room in a pool that has nothing behind it. */
static int reserve_pool_alone(struct store *store, uint64_t keep, uint32_t *got)
{
	uint64_t taken, left;

	pthread_mutex_lock(&store->lock);
	taken = store->pool_bytes + store->pool_reserved + keep;
	left = store->config.pool_bytes > taken ? store->config.pool_bytes - taken : 0;
	left &= ~(uint64_t)(STORE_PAGE - 1);
	*got = left < SEGMENT_MAX ? (uint32_t)left : SEGMENT_MAX;
	if (*got >= RECORD_RAW)
		store->pool_reserved += *got;
	pthread_mutex_unlock(&store->lock);
	return *got >= RECORD_RAW ? 0 : -EDQUOT;
}

static int reserve(struct store_writer *writer, uint32_t *slot, uint32_t *got)
{
	struct store *store = writer->store;
	uint64_t left = writer->uses_reserve ? 0 : store->reserve;
	int result;

	*slot = SLOT_NONE;
	if (to_file(store)) {
		uint32_t need = store_file_cost(store, RECORD_RAW);

		return store_take_space(store, (struct store_room){need, SEGMENT_MAX, left}, slot,
					got);
	}
	if (!store->has_file)
		return reserve_pool_alone(store, left, got);
	result = store_evict(writer);
	if (result)
		return result;
	*got = SEGMENT_MAX;
	pthread_mutex_lock(&store->lock);
	store->pool_reserved += *got;
	pthread_mutex_unlock(&store->lock);
	return 0;
}

/* With the lock held. */
static void unreserve(struct store_writer *writer)
{
	if (to_file(writer->store))
		writer->store->file_reserved -= writer->capacity;
	else
		writer->store->pool_reserved -= writer->capacity;
}

/* Of the open segment's buffer. One for the file serves again, whatever the limit left this time. */
static size_t open_buffer_size(const struct store_writer *writer)
{
	return to_file(writer->store) ? SEGMENT_MAX : writer->capacity;
}

static uint8_t *take_buffer(struct store_writer *writer)
{
	size_t size = open_buffer_size(writer);
	uint8_t *bytes = writer->spare;

	if (!bytes || size != SEGMENT_MAX)
		return segment_buffer_get(writer->store, size);
	writer->spare = NULL;
	return bytes;
}

static int open_segment(struct store_writer *writer)
{
	struct store *store = writer->store;
	uint32_t slot;
	int result = reserve(writer, &slot, &writer->capacity);

	if (result)
		return result;
	writer->bytes = take_buffer(writer);
	pthread_mutex_lock(&store->lock);
	result = writer->bytes ? segment_take(&store->segments, &writer->index) : -ENOMEM;
	if (!result) {
		struct segment *segment = segment_find(&store->segments, writer->index);

		segment->slot = slot;
		writer->sequence = segment->sequence;
	} else {
		unreserve(writer);
		if (slot != SLOT_NONE)
			slot_give(&store->slots, slot);
		writer->index = SEGMENT_NONE;
	}
	pthread_mutex_unlock(&store->lock);
	if (result) {
		segment_buffer_put(store, (struct buffer){writer->bytes, open_buffer_size(writer)});
		writer->bytes = NULL;
	}
	return result;
}

/*
 * Writes the record of @page behind the others. Compressed payloads are padded to 16 bytes, the last
 * of which says how many were added. Until a record is sealed, its tag is its size.
 */
static int write_record(struct store_writer *writer, const void *page, uint32_t *size)
{
	uint8_t *record = writer->bytes + writer->used, *payload = record + RECORD_TAG;
	size_t length = codec_compress(writer->codec, page, payload, COMPRESSED_MAX);
	const void *from = payload;

	if (length > 0) {
		uint8_t padding = (uint8_t)(RECORD_UNIT - length % RECORD_UNIT);

		memset(payload + length, 0, padding);
		length += padding;
		payload[length - 1] = padding;
	} else {
		length = STORE_PAGE;
		from = page;
	}
	*size = (uint32_t)length + RECORD_TAG;
	if (to_file(writer->store)) {
		struct cipher_nonce nonce = {writer->sequence, writer->used};

		return cipher_seal(writer->cipher, nonce, from, length, payload, record);
	}
	if (from == page)
		memcpy(payload, page, STORE_PAGE);
	memset(record, 0, RECORD_TAG);
	memcpy(record, size, sizeof(*size));
	return 0;
}

int store_append(struct store_writer *writer, const void *page, store_location *location)
{
	uint64_t word;
	uint32_t size;
	int result;

	if (page_is_filled(page, &word) && location_of_word(word, location)) {
		atomic_fetch_add_explicit(&writer->store->entries_filled, 1, memory_order_relaxed);
		writer->appended = true;
		return 0;
	}
	if (writer->index == SEGMENT_NONE) {
		result = open_segment(writer);
		if (result)
			return result;
	}
	if (writer->capacity - writer->used < RECORD_RAW)
		return -ENOBUFS;
	result = write_record(writer, page, &size);
	if (result)
		return result;
	*location = location_of_record((struct record_place){writer->index, writer->used, size});
	writer->used += size;
	writer->entries++;
	writer->appended = true;
	return 0;
}

/* ---- sealing ---- */

static void seal_to_file(struct store_writer *writer, struct parcel *parcel,
			 const struct segment *segment)
{
	parcel->buffer = (struct buffer){writer->bytes, SEGMENT_MAX};
	parcel->cost = store_file_cost(writer->store, writer->used);
	segment_write_begin(writer, &parcel->write, writer->bytes, writer->used, segment->slot);
}

/* What a pool segment does not need of its buffer. */
static uint32_t trim(struct store_writer *writer)
{
	uint32_t keep = (writer->used + STORE_PAGE - 1) & ~(STORE_PAGE - 1);

	if (writer->store->has_file && writer->capacity - keep < TRIM_MIN)
		return writer->capacity;
	if (keep < writer->capacity)
		munmap(writer->bytes + keep, writer->capacity - keep);
	return keep;
}

/* The open segment is WRITING from now on. */
static void close_segment(struct store_writer *writer, struct parcel *parcel)
{
	struct store *store = writer->store;
	struct segment *segment = segment_find(&store->segments, writer->index);
	uint32_t kept = 0;

	if (parcel->to_file)
		seal_to_file(writer, parcel, segment);
	else
		kept = trim(writer);
	pthread_mutex_lock(&store->lock);
	segment->used = writer->used;
	segment->live += (int32_t)writer->used;
	segment->entries += writer->entries;
	segment->state = SEGMENT_WRITING;
	unreserve(writer);
	if (parcel->to_file) {
		segment->cost = parcel->cost;
		store->file_bytes += parcel->cost;
	} else {
		segment->ram = writer->bytes;
		segment->ram_size = kept;
		store->pool_bytes += kept;
	}
	pthread_mutex_unlock(&store->lock);
	if (!parcel->to_file)
		atomic_fetch_sub(&store->ram_bytes, (int64_t)writer->capacity);
}

static void forget_open(struct store_writer *writer)
{
	writer->appended = false;
	writer->index = SEGMENT_NONE;
	writer->bytes = NULL;
	writer->used = 0;
	writer->entries = 0;
}

bool store_seal(struct store_writer *writer, unsigned *parcel)
{
	struct parcel *sealed = NULL;

	if (!writer->appended)
		return false;
	for (unsigned i = 0; i < STORE_PARCELS_MAX && !sealed; i++) {
		if (writer->parcels[i].busy)
			continue;
		sealed = &writer->parcels[i];
		*parcel = i;
	}
	assert(sealed);
	*sealed = (struct parcel){
		.busy = true,
		.to_file = to_file(writer->store),
		.index = writer->index,
	};
	if (writer->index != SEGMENT_NONE)
		close_segment(writer, sealed);
	forget_open(writer);
	return true;
}

/* ---- waiting ---- */

static void keep_buffer(struct store_writer *writer, struct buffer buffer)
{
	if (!writer->spare && buffer.size == SEGMENT_MAX)
		writer->spare = buffer.bytes;
	else
		segment_buffer_put(writer->store, buffer);
}

static int wait_for_disk(struct store_writer *writer, struct parcel *parcel)
{
	int result = segment_write_wait(writer, &parcel->write);

	keep_buffer(writer, parcel->buffer);
	return result;
}

/* What becomes of a segment that was WRITING. */
static void settle_as(struct store *store, uint32_t index, enum segment_state state)
{
	struct segment *segment = segment_find(&store->segments, index);
	struct buffer ram;

	pthread_mutex_lock(&store->lock);
	segment->state = (uint8_t)state;
	segment_count(&store->segments, segment);
	if (state == SEGMENT_POOL)
		segment_append(&store->segments, &store->segments.pool, index);
	ram = store_settle(store, index);
	pthread_mutex_unlock(&store->lock);
	segment_buffer_put(store, ram);
}

int store_wait(struct store_writer *writer, unsigned number)
{
	struct parcel *parcel = &writer->parcels[number];
	int result = 0;

	assert(number < STORE_PARCELS_MAX && parcel->busy);
	parcel->busy = false;
	if (parcel->index == SEGMENT_NONE)
		return 0;
	if (parcel->to_file) {
		result = wait_for_disk(writer, parcel);
		settle_as(writer->store, parcel->index, result ? SEGMENT_FAILED : SEGMENT_FILE);
		return result;
	}
	settle_as(writer->store, parcel->index, SEGMENT_POOL);
	/* What keeps the pool from being emptied is told by the append that finds it full. */
	if (writer->store->has_file)
		store_evict(writer);
	return 0;
}

/* Nobody waited for it: its entries do not count. */
static void abandon_open(struct store_writer *writer)
{
	struct store *store = writer->store;
	struct segment *segment = segment_find(&store->segments, writer->index);

	pthread_mutex_lock(&store->lock);
	unreserve(writer);
	segment->entries += writer->entries;
	segment->live += (int32_t)writer->used;
	pthread_mutex_unlock(&store->lock);
	settle_as(store, writer->index, SEGMENT_FAILED);
	segment_buffer_put(store, (struct buffer){writer->bytes, open_buffer_size(writer)});
}

void store_writer_destroy(struct store_writer *writer)
{
	if (!writer)
		return;
	for (unsigned i = 0; i < STORE_PARCELS_MAX; i++) {
		struct parcel *parcel = &writer->parcels[i];

		if (!parcel->busy || parcel->index == SEGMENT_NONE)
			continue;
		if (parcel->to_file)
			wait_for_disk(writer, parcel);
		settle_as(writer->store, parcel->index, SEGMENT_FAILED);
	}
	if (writer->index != SEGMENT_NONE)
		abandon_open(writer);
	store_evict_reap(writer, true);
	for (unsigned i = 0; i < EVICTIONS_MAX; i++)
		segment_buffer_put(writer->store,
				   (struct buffer){writer->evictions[i].buffer, SEGMENT_MAX});
	segment_buffer_put(writer->store, (struct buffer){writer->spare, SEGMENT_MAX});
	store_remove_writer(writer->store);
	store_io_queue_destroy(writer->queue);
	cipher_destroy(writer->cipher);
	codec_destroy(writer->codec);
	free(writer);
}
