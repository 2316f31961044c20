#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "swap/buffer.h"
#include "swap/store_internal.h"

int store_check_path(const char *path, struct error *err)
{
	return store_file_check(path, err);
}

int store_reserve(const char *path, int *fd, struct error *err)
{
	return store_file_reserve(path, fd, err);
}

static int open_file(struct store *store, const char *path, struct error *err)
{
	int result = store->config.fd > 0
			     ? store_file_reopen(store->config.fd, path, &store->file, err)
			     : store_file_open(path, &store->file, err);

	if (result)
		return result;
	store->has_file = true;
	store->slots.slots = store->file.size / SEGMENT_MAX;
	if (store->slots.slots > SEGMENTS_MAX)
		store->slots.slots = SEGMENTS_MAX;
	result = store_io_create(store->file.fd, store->file.block, store->config.io, &store->io);
	if (result)
		return error_errno(err, -result,
				   "swap store: io_uring (let the store choose, or see "
				   "/proc/sys/kernel/io_uring_disabled)");
	result = cipher_key_create(store->config.encrypt, &store->key);
	if (result)
		return error_errno(err, -result, "swap store: a key for AES-256-GCM");
	return 0;
}

static int check_config(const struct store_config *config, struct error *err)
{
	struct codec *codec;
	int result = codec_create(config->compression, config->level, &codec);

	if (result)
		return error_errno(err, -result, "swap store: compression level %d", config->level);
	codec_destroy(codec);
	if (!config->path && config->pool_bytes == 0)
		return error_say(err, EINVAL,
				 "swap store: neither a directory nor a pool; give one of them");
	return 0;
}

/* A segment or two are little of a large limit; of a small one, all of it is for pages. */
static uint64_t reserve_of(const struct store_config *config)
{
	uint64_t limit = config->path ? config->limit_bytes : config->pool_bytes;

	return limit >= 32ull * SEGMENT_MAX  ? 2ull * SEGMENT_MAX
	       : limit >= 8ull * SEGMENT_MAX ? SEGMENT_MAX
					     : 0;
}

int store_create(const struct store_config *config, struct store **out, struct error *err)
{
	struct store *store;
	int result = check_config(config, err);

	if (result)
		return result;
	store = calloc(1, sizeof(*store));
	if (!store)
		return error_errno(err, ENOMEM, "swap store");
	store->config = *config;
	store->config.path = NULL;
	store->reserve = reserve_of(config);
	store->file.fd = -1;
	store->file.block = STORE_PAGE;
	pthread_mutex_init(&store->reclaim_lock, NULL);
	pthread_mutex_init(&store->lock, NULL);
	result = segment_table_init(&store->segments);
	if (result)
		error_errno(err, -result, "swap store: its tables");
	else if (config->path)
		result = open_file(store, config->path, err);
	if (result)
		store_destroy(store);
	else
		*out = store;
	return result;
}

void store_destroy(struct store *store)
{
	if (!store)
		return;
	for (uint32_t i = 0; i < store->segments.count; i++) {
		struct segment *segment = segment_find(&store->segments, i);

		if (segment->ram)
			buffer_unmap(segment->ram, segment->ram_size);
	}
	while (store->spares > 0)
		buffer_unmap(store->spare[--store->spares], SEGMENT_MAX);
	store_io_destroy(store->io);
	cipher_key_destroy(store->key);
	if (store->has_file) {
		if (store->file.device)
			store_file_punch(&store->file, 0,
					 slot_offset((uint32_t)store->slots.slots));
		store_file_close(&store->file);
	}
	slot_map_destroy(&store->slots);
	segment_table_destroy(&store->segments);
	pthread_mutex_destroy(&store->lock);
	pthread_mutex_destroy(&store->reclaim_lock);
	free(store);
}

/* ---- buffers ---- */

void *segment_buffer_get(struct store *store, size_t size)
{
	void *bytes = NULL;

	if (size == SEGMENT_MAX) {
		pthread_mutex_lock(&store->lock);
		if (store->spares > 0)
			bytes = store->spare[--store->spares];
		pthread_mutex_unlock(&store->lock);
	}
	if (bytes)
		return bytes;
	bytes = buffer_map(size);
	if (bytes)
		atomic_fetch_add(&store->ram_bytes, (int64_t)size);
	return bytes;
}

void segment_buffer_put(struct store *store, struct buffer buffer)
{
	if (!buffer.bytes)
		return;
	if (buffer.size == SEGMENT_MAX) {
		pthread_mutex_lock(&store->lock);
		if (store->spares < SPARE_BUFFERS) {
			store->spare[store->spares++] = buffer.bytes;
			buffer.bytes = NULL;
		}
		pthread_mutex_unlock(&store->lock);
	}
	if (!buffer.bytes)
		return;
	buffer_unmap(buffer.bytes, buffer.size);
	atomic_fetch_sub(&store->ram_bytes, (int64_t)buffer.size);
}

void store_add_writer(struct store *store)
{
	pthread_mutex_lock(&store->lock);
	store->writers++;
	pthread_mutex_unlock(&store->lock);
}

void store_remove_writer(struct store *store)
{
	void *unused[SPARE_BUFFERS];
	unsigned count = 0;

	pthread_mutex_lock(&store->lock);
	if (--store->writers == 0)
		while (store->spares > 0)
			unused[count++] = store->spare[--store->spares];
	pthread_mutex_unlock(&store->lock);
	for (unsigned i = 0; i < count; i++)
		buffer_unmap(unused[i], SEGMENT_MAX);
	atomic_fetch_sub(&store->ram_bytes, (int64_t)count * SEGMENT_MAX);
}

/* ---- segments ---- */

static bool is_sealed(const struct segment *segment)
{
	return segment->state == SEGMENT_POOL || segment->state == SEGMENT_FILE ||
	       segment->state == SEGMENT_FAILED;
}

struct buffer store_settle(struct store *store, uint32_t index)
{
	struct segment *segment = segment_find(&store->segments, index);
	struct buffer ram = {NULL, 0};

	/* Eviction settles it when it is through. */
	if (segment->evicting)
		return ram;
	if (is_sealed(segment) && segment->entries == 0) {
		segment_uncount(&store->segments, segment);
		if (segment->state == SEGMENT_POOL)
			segment_unlink(&store->segments, &store->segments.pool, index);
		segment->state = SEGMENT_DEAD;
		segment->victim = false;
	}
	if (segment->readers > 0 || segment->state == SEGMENT_POOL ||
	    segment->state == SEGMENT_WRITING)
		return ram;
	if (segment->ram) {
		ram = (struct buffer){segment->ram, segment->ram_size};
		segment->ram = NULL;
		store->pool_bytes -= ram.size;
		atomic_fetch_add(&store->ram_bytes, (int64_t)ram.size);
	}
	if (segment->state == SEGMENT_DEAD && !segment->queued) {
		if (segment->slot == SLOT_NONE) {
			segment_release(&store->segments, index);
		} else {
			segment->queued = true;
			segment_append(&store->segments, &store->segments.dead, index);
		}
	}
	return ram;
}

void store_drop(struct store *store, store_location location)
{
	struct record_place place = location_record(location);
	struct buffer ram = {NULL, 0};
	struct segment *segment;

	if (location_kind(location) != LOCATION_RECORD) {
		atomic_fetch_sub_explicit(&store->entries_filled, 1, memory_order_relaxed);
		return;
	}
	segment = segment_find(&store->segments, place.segment);
	assert(segment);
	pthread_mutex_lock(&store->lock);
	assert(segment->state != SEGMENT_FREE && segment->state != SEGMENT_DEAD);
	assert(!is_sealed(segment) || segment->entries > 0);
	segment_uncount(&store->segments, segment);
	segment->live -= (int32_t)place.size;
	segment->entries--;
	segment_count(&store->segments, segment);
	if (segment->entries == 0)
		ram = store_settle(store, place.segment);
	pthread_mutex_unlock(&store->lock);
	segment_buffer_put(store, ram);
}

enum store_place store_place(struct store *store, store_location location)
{
	const struct segment *segment;

	if (location_kind(location) != LOCATION_RECORD)
		return STORE_PLACE_NOWHERE;
	segment = segment_find(&store->segments, location_record(location).segment);
	/* What is not sealed yet is in memory, too. */
	return segment && atomic_load_explicit(&segment->state, memory_order_relaxed) ==
				       SEGMENT_FILE
		       ? STORE_PLACE_FILE
		       : STORE_PLACE_POOL;
}

bool store_adjacent(store_location location, store_location next)
{
	struct record_place a = location_record(location), b = location_record(next);

	return location_kind(location) == LOCATION_RECORD &&
	       location_kind(next) == LOCATION_RECORD && a.segment == b.segment &&
	       a.offset + a.size == b.offset;
}

bool store_takes_changing_pages(const struct store *store)
{
	/* A compressor might be led astray; copying, hashing and encrypting cannot. */
	return store->config.compression == STORE_COMPRESS_NONE;
}

void store_get_usage(struct store *store, struct store_usage *usage)
{
	int64_t filled = atomic_load(&store->entries_filled);
	const struct segment_sums *sums = &store->segments.sums;

	memset(usage, 0, sizeof(*usage));
	/* A page that was dropped before its writer counted it. */
	usage->entries_filled = filled > 0 ? (uint64_t)filled : 0;
	pthread_mutex_lock(&store->lock);
	usage->entries_pool = (uint64_t)sums->entries_pool;
	usage->entries = usage->entries_filled + usage->entries_pool + (uint64_t)sums->entries_file;
	usage->live_bytes = (uint64_t)(sums->live_pool + sums->live_file);
	usage->pool_bytes = store->pool_bytes;
	usage->file_bytes = store->file_bytes;
	usage->ram_bytes = segment_table_bytes(&store->segments) +
			   store->slots.count * sizeof(uint64_t) +
			   (uint64_t)atomic_load(&store->ram_bytes);
	pthread_mutex_unlock(&store->lock);
	usage->written_bytes = atomic_load(&store->written_bytes);
	usage->read_bytes = atomic_load(&store->read_bytes);
	usage->evicted_bytes = atomic_load(&store->evicted_bytes);
	usage->uring = store->io && store_io_is_uring(store->io);
	usage->direct = store->has_file && store->file.direct;
}

const char *store_compression_name(enum store_compression compression)
{
	return codec_name(compression);
}
