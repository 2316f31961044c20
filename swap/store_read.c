#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "swap/buffer.h"
#include "swap/store_internal.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"

/* Requests of one reader in the kernel's hands at once. */
#define READER_DEPTH 64u

/* Records that lie this close are read in one transfer, what is between them for nothing. */
#define GAP_MAX (8 * KIB)

/* Long stretches are read in transfers of this size, side by side. */
#define TRANSFER_MAX (256 * KIB)

/* From this size on, a read is not to leave its data in the page cache. */
#define FORGET_MIN (64 * KIB)

enum item_kind {
	ITEM_FILL,
	ITEM_POOL,
	ITEM_FILE,
};

/* One entry of a read. */
struct item {
	enum item_kind kind;
	struct record_place place;
	union {
		uint64_t word;     /* FILL */
		uint64_t sequence; /* FILE */
	};
	const uint8_t *record; /* POOL: in the segment; FILE: in the buffer, once it is read */
};

/* The entries in the file, in the order they lie there. */
struct file_item {
	uint64_t offset;
	uint32_t item;
	uint32_t transfer;
};

/* What a read needs; lies before its buffer. */
struct plan {
	struct item items[STORE_BATCH_MAX];
	struct file_item in_file[STORE_BATCH_MAX];
	struct store_io_request transfers[STORE_BATCH_MAX];
};

struct read {
	bool busy;
	struct plan *plan; /* mapped when first needed, with the buffer */
	uint8_t *buffer;
	size_t count;
	size_t in_file;
	size_t transfers;
	uint64_t touched; /* of the mapping: the most bytes so far */
};

struct store_reader {
	struct store *store;
	struct codec *codec;
	struct cipher *cipher;                  /* made when first needed */
	struct store_io_queue *queue;           /* likewise */
	struct read reads[STORE_READS_MAX + 1]; /* the last is store_read()'s */
	uint8_t scratch[STORE_PAGE];
};

int store_reader_create(struct store *store, struct store_reader **out)
{
	struct store_reader *reader = calloc(1, sizeof(*reader));
	int result;

	if (!reader)
		return -ENOMEM;
	reader->store = store;
	result = codec_create(store->config.compression, store->config.level, &reader->codec);
	if (result)
		free(reader);
	else
		*out = reader;
	return result;
}

static size_t plan_size(void)
{
	return (sizeof(struct plan) + STORE_BLOCK_MAX - 1) & ~(size_t)(STORE_BLOCK_MAX - 1);
}

/* Each entry may need a transfer of its own. A mapping takes memory only where it is used. */
static size_t buffer_size(const struct store *store)
{
	return STORE_BATCH_MAX * (2 * (size_t)store->file.block + STORE_PAGE + GAP_MAX);
}

void store_reader_destroy(struct store_reader *reader)
{
	if (!reader)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(reader->reads); i++) {
		struct read *read = &reader->reads[i];

		assert(!read->busy);
		buffer_unmap(read->plan, plan_size() + buffer_size(reader->store));
		atomic_fetch_sub(&reader->store->ram_bytes, (int64_t)read->touched);
	}
	store_io_queue_destroy(reader->queue);
	cipher_destroy(reader->cipher);
	codec_destroy(reader->codec);
	free(reader);
}

static int prepare_read(struct store_reader *reader, struct read *read)
{
	if (read->plan)
		return 0;
	read->plan = buffer_map(plan_size() + buffer_size(reader->store));
	if (!read->plan)
		return -ENOMEM;
	read->buffer = (uint8_t *)read->plan + plan_size();
	return 0;
}

static int prepare_file(struct store_reader *reader)
{
	return reader->cipher ? 0 : cipher_create(reader->store->key, false, &reader->cipher);
}

/* ---- finding ---- */

/* With the lock held: where the record is. Its segment stays in memory until it is let go. */
static int look_up(struct store *store, struct item *item)
{
	struct segment *segment = segment_find(&store->segments, item->place.segment);

	if (!segment || item->place.size < RECORD_TAG + RECORD_UNIT ||
	    item->place.size > RECORD_RAW ||
	    !range_within(item->place.offset, item->place.size, segment->used))
		return -EBADMSG;
	if (segment->state == SEGMENT_POOL) {
		item->kind = ITEM_POOL;
		item->record = segment->ram + item->place.offset;
		segment->readers++;
		return 0;
	}
	if (segment->state != SEGMENT_FILE)
		return -EBADMSG;
	item->kind = ITEM_FILE;
	item->sequence = segment->sequence;
	return 0;
}

/* Lets @count readers of a segment in the pool go. */
static void let_go(struct store *store, uint32_t index, uint32_t count)
{
	struct segment *segment = segment_find(&store->segments, index);
	struct buffer ram = {NULL, 0};

	pthread_mutex_lock(&store->lock);
	segment->readers -= count;
	if (segment->readers == 0)
		ram = store_settle(store, index);
	pthread_mutex_unlock(&store->lock);
	segment_buffer_put(store, ram);
}

static void let_all_go(struct store *store, const struct item *items, size_t count)
{
	size_t next;

	for (size_t i = 0; i < count; i = next) {
		next = i + 1;
		if (items[i].kind != ITEM_POOL)
			continue;
		while (next < count && items[next].kind == ITEM_POOL &&
		       items[next].place.segment == items[i].place.segment)
			next++;
		let_go(store, items[i].place.segment, (uint32_t)(next - i));
	}
}

static uint64_t file_offset(struct store *store, const struct item *item)
{
	const struct segment *segment = segment_find(&store->segments, item->place.segment);

	return slot_offset(segment->slot) + item->place.offset;
}

/* Finds every entry of a read. On failure nothing is held. */
static int find_all(struct store *store, struct read *read, const store_location locations[])
{
	struct plan *plan = read->plan;
	int result = 0;
	size_t i;

	read->in_file = 0;
	pthread_mutex_lock(&store->lock);
	for (i = 0; i < read->count && !result; i++) {
		struct item *item = &plan->items[i];

		if (location_kind(locations[i]) != LOCATION_RECORD) {
			item->kind = ITEM_FILL;
			item->word = location_word(locations[i]);
			continue;
		}
		item->place = location_record(locations[i]);
		result = look_up(store, item);
		if (!result && item->kind == ITEM_FILE)
			plan->in_file[read->in_file++] = (struct file_item){
				.offset = file_offset(store, item),
				.item = (uint32_t)i,
			};
	}
	pthread_mutex_unlock(&store->lock);
	if (result)
		let_all_go(store, plan->items, i - 1);
	return result;
}

/* ---- reading from the file ---- */

static int compare_offsets(const void *a, const void *b)
{
	uint64_t x = ((const struct file_item *)a)->offset;
	uint64_t y = ((const struct file_item *)b)->offset;

	return x < y ? -1 : x > y;
}

static void sort_by_offset(struct file_item *items, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		if (items[i - 1].offset > items[i].offset) {
			qsort(items, count, sizeof(items[0]), compare_offsets);
			return;
		}
	}
}

/* Lays out the transfers: records that lie close together share one. */
static void plan_transfers(struct store *store, struct read *read)
{
	const uint64_t block = store->file.block;
	struct plan *plan = read->plan;
	struct store_io_request *transfer = NULL;
	uint8_t *at = read->buffer;

	read->transfers = 0;
	sort_by_offset(plan->in_file, read->in_file);
	for (size_t i = 0; i < read->in_file; i++) {
		struct file_item *in_file = &plan->in_file[i];
		struct item *item = &plan->items[in_file->item];
		uint64_t start = align_down(in_file->offset, block);
		uint64_t end = align_down(in_file->offset + item->place.size + block - 1, block);

		if (!transfer || start > transfer->offset + transfer->length + GAP_MAX ||
		    end > transfer->offset + TRANSFER_MAX) {
			transfer = &plan->transfers[read->transfers++];
			*transfer = (struct store_io_request){.buffer = at, .offset = start};
		}
		if (end > transfer->offset + transfer->length)
			transfer->length = end - transfer->offset;
		at = (uint8_t *)transfer->buffer + transfer->length;
		in_file->transfer = (uint32_t)read->transfers - 1;
		item->record = (uint8_t *)transfer->buffer + (in_file->offset - transfer->offset);
	}
	if (plan_size() + (uint64_t)(at - read->buffer) > read->touched) {
		uint64_t touched = plan_size() + (uint64_t)(at - read->buffer);

		atomic_fetch_add(&store->ram_bytes, (int64_t)(touched - read->touched));
		read->touched = touched;
	}
}

static int submit_transfers(struct store_reader *reader, struct read *read)
{
	int result = 0;

	if (!reader->queue)
		result = store_io_queue_create(reader->store->io, READER_DEPTH, &reader->queue);
	if (result)
		return result;
	for (size_t i = 0; i < read->transfers; i++)
		store_io_submit(reader->queue, &read->plan->transfers[i]);
	store_io_kick(reader->queue);
	return 0;
}

/* A file that ends too early is one that was changed. */
static int explain(int result)
{
	return result == -ENODATA ? -EBADMSG : result;
}

static int transfer_done(struct store *store, const struct store_io_request *transfer, int result)
{
	if (!result)
		atomic_fetch_add(&store->read_bytes, transfer->length);
	if (transfer->length >= FORGET_MIN)
		store_file_forget(&store->file, transfer->offset, transfer->length);
	return explain(result);
}

/* ---- decoding ---- */

/* @payload: of a record that is what was put. */
static int decode(struct store_reader *reader, const uint8_t *payload, uint32_t size, void *page)
{
	uint8_t padding = payload[size - 1];

	if (size == STORE_PAGE) {
		if (payload != page)
			memcpy(page, payload, STORE_PAGE);
		return 0;
	}
	if (padding == 0 || padding > RECORD_UNIT)
		return -EBADMSG;
	return codec_decompress(reader->codec, payload, size - padding, page);
}

static int decode_item(struct store_reader *reader, const struct item *item, void *page)
{
	uint32_t size = item->place.size - RECORD_TAG;
	const uint8_t *payload;

	if (item->kind == ITEM_FILL) {
		page_fill(page, item->word);
		return 0;
	}
	payload = item->record + RECORD_TAG;
	if (item->kind == ITEM_FILE) {
		struct cipher_nonce nonce = {item->sequence, item->place.offset};

		payload = cipher_open(reader->cipher, nonce, payload, size, item->record,
				      size == STORE_PAGE ? page : reader->scratch);
		if (!payload)
			return -EBADMSG;
	}
	return decode(reader, payload, size, page);
}

/* ---- reads ---- */

/* Finds the entries and says what to transfer. On failure nothing is held. */
static int plan_read(struct store_reader *reader, struct read *read,
		     const store_location locations[], size_t count)
{
	int result = prepare_read(reader, read);

	assert(count <= STORE_BATCH_MAX);
	read->count = count;
	if (!result)
		result = find_all(reader->store, read, locations);
	if (result)
		return result;
	plan_transfers(reader->store, read);
	result = read->in_file ? prepare_file(reader) : 0;
	if (result)
		let_all_go(reader->store, read->plan->items, count);
	return result;
}

/* All that needs no transfer; then the rest, as the transfers come in. */
static int fill_pages(struct store_reader *reader, struct read *read, void *const pages[],
		      bool submitted)
{
	struct plan *plan = read->plan;
	size_t next = 0;
	int result = 0;

	for (size_t i = 0; i < read->count && !result; i++)
		if (plan->items[i].kind != ITEM_FILE)
			result = decode_item(reader, &plan->items[i], pages[i]);
	for (size_t i = 0; i < read->transfers; i++) {
		struct store_io_request *transfer = &plan->transfers[i];
		int moved = submitted ? store_io_wait(reader->queue, transfer)
				      : store_io_transfer(reader->store->io, transfer);

		moved = transfer_done(reader->store, transfer, moved);
		if (moved && !result)
			result = moved;
		for (; next < read->in_file && plan->in_file[next].transfer == i; next++) {
			uint32_t item = plan->in_file[next].item;

			if (!result)
				result = decode_item(reader, &plan->items[item], pages[item]);
		}
	}
	let_all_go(reader->store, plan->items, read->count);
	return result;
}

/* One entry that needs no plan. */
static int read_from_memory(struct store_reader *reader, struct item *item, void *page)
{
	int result = decode_item(reader, item, page);

	if (item->kind == ITEM_POOL)
		let_go(reader->store, item->place.segment, 1);
	return result;
}

/* True with *result if the entry is in memory. */
static bool try_memory(struct store_reader *reader, store_location location, void *page,
		       int *result)
{
	struct item item = {.kind = ITEM_FILL};

	if (location_kind(location) == LOCATION_RECORD) {
		item.place = location_record(location);
		pthread_mutex_lock(&reader->store->lock);
		*result = look_up(reader->store, &item);
		pthread_mutex_unlock(&reader->store->lock);
		if (*result)
			return true;
		if (item.kind == ITEM_FILE)
			return false;
	} else {
		item.word = location_word(location);
	}
	*result = read_from_memory(reader, &item, page);
	return true;
}

int store_read(struct store_reader *reader, const store_location locations[], size_t count,
	       void *const pages[])
{
	struct read *read = &reader->reads[STORE_READS_MAX];
	bool submit;
	int result;

	if (count == 1 && try_memory(reader, locations[0], pages[0], &result))
		return result;
	result = plan_read(reader, read, locations, count);
	if (result)
		return result;
	/* A single transfer is done soonest by a plain pread(). */
	submit = read->transfers > 1;
	result = submit ? submit_transfers(reader, read) : 0;
	if (result)
		let_all_go(reader->store, read->plan->items, count);
	else
		result = fill_pages(reader, read, pages, submit);
	return result;
}

int store_read_begin(struct store_reader *reader, const store_location locations[], size_t count,
		     unsigned *number)
{
	struct read *read = NULL;
	int result;

	for (unsigned i = 0; i < STORE_READS_MAX && !read; i++) {
		if (reader->reads[i].busy)
			continue;
		read = &reader->reads[i];
		*number = i;
	}
	assert(read);
	result = plan_read(reader, read, locations, count);
	if (result)
		return result;
	result = read->transfers ? submit_transfers(reader, read) : 0;
	if (result)
		let_all_go(reader->store, read->plan->items, count);
	read->busy = result == 0;
	return result;
}

int store_read_finish(struct store_reader *reader, unsigned number, void *const pages[])
{
	struct read *read = &reader->reads[number];

	assert(number < STORE_READS_MAX && read->busy);
	read->busy = false;
	return fill_pages(reader, read, pages, true);
}
