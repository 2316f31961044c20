#include "swap/page_map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STATE_MASK     0x7ull
#define COPY_FLAG      0x8ull
#define LOCATION_SHIFT 8

#define HASH_BYTES 7u

struct chunk {
	pthread_mutex_t lock;
	uint64_t version;
	/* Pages in each state. Written with the lock held; a chunk of the end has fewer pages. */
	_Atomic uint16_t counts[PAGE_STATES];
};

struct page_map {
	size_t pages;
	/* mmap: an untouched stretch costs nothing, is EMPTY and has no hash */
	uint64_t *words;
	uint8_t *hashes;
	size_t chunk_count;
	struct chunk *chunks;
};

static void *map_lazily(size_t length)
{
	void *address = mmap(NULL, length, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (address == MAP_FAILED)
		return NULL;
	/* Huge pages would make the map of a mostly empty guest cost as much as a full one's. */
	madvise(address, length, MADV_NOHUGEPAGE);
	return address;
}

int page_map_create(size_t pages, struct page_map **out)
{
	struct page_map *map = calloc(1, sizeof(*map));

	if (!map)
		return -ENOMEM;
	map->pages = pages;
	map->chunk_count = (pages + PAGE_MAP_CHUNK - 1) / PAGE_MAP_CHUNK;
	map->words = map_lazily(pages * sizeof(*map->words));
	if (!map->words)
		goto free_map;
	map->hashes = map_lazily(pages * HASH_BYTES);
	if (!map->hashes)
		goto unmap_words;
	map->chunks = calloc(map->chunk_count, sizeof(*map->chunks));
	if (!map->chunks)
		goto unmap_hashes;
	for (size_t i = 0; i < map->chunk_count; i++) {
		size_t left = pages - i * PAGE_MAP_CHUNK;

		pthread_mutex_init(&map->chunks[i].lock, NULL);
		map->chunks[i].counts[PAGE_EMPTY] =
			(uint16_t)(left < PAGE_MAP_CHUNK ? left : PAGE_MAP_CHUNK);
	}
	*out = map;
	return 0;

unmap_hashes:
	munmap(map->hashes, pages * HASH_BYTES);
unmap_words:
	munmap(map->words, pages * sizeof(*map->words));
free_map:
	free(map);
	return -ENOMEM;
}

void page_map_destroy(struct page_map *map)
{
	if (!map)
		return;
	for (size_t i = 0; i < map->chunk_count; i++)
		pthread_mutex_destroy(&map->chunks[i].lock);
	free(map->chunks);
	munmap(map->hashes, map->pages * HASH_BYTES);
	munmap(map->words, map->pages * sizeof(*map->words));
	free(map);
}

size_t page_map_pages(const struct page_map *map)
{
	return map->pages;
}

void page_map_lock(struct page_map *map, size_t page)
{
	pthread_mutex_lock(&map->chunks[page / PAGE_MAP_CHUNK].lock);
}

void page_map_unlock(struct page_map *map, size_t page)
{
	pthread_mutex_unlock(&map->chunks[page / PAGE_MAP_CHUNK].lock);
}

struct page_entry page_map_get(const struct page_map *map, size_t page)
{
	uint64_t word = map->words[page];

	return (struct page_entry){
		.state = (enum page_state)(word & STATE_MASK),
		.has_copy = word & COPY_FLAG,
		.location = word >> LOCATION_SHIFT,
	};
}

/* One more or less; only the holder of the lock writes. */
static void add(_Atomic uint16_t *count, int change)
{
	uint16_t value = atomic_load_explicit(count, memory_order_relaxed);

	atomic_store_explicit(count, (uint16_t)(value + change), memory_order_relaxed);
}

void page_map_set(struct page_map *map, size_t page, struct page_entry entry)
{
	struct chunk *chunk = &map->chunks[page / PAGE_MAP_CHUNK];
	uint64_t before = map->words[page];
	uint64_t after = (uint64_t)entry.state;

	assert(entry.location <= STORE_LOCATION_MAX);
	assert(entry.state != PAGE_SWAPPED || entry.has_copy);
	if (entry.has_copy)
		after |= COPY_FLAG | entry.location << LOCATION_SHIFT;
	map->words[page] = after;
	if (entry.has_copy && (before & ~STATE_MASK) != (after & ~STATE_MASK))
		chunk->version++;
	if ((before & STATE_MASK) != (after & STATE_MASK)) {
		add(&chunk->counts[before & STATE_MASK], -1);
		add(&chunk->counts[entry.state], 1);
	}
}

uint64_t page_map_hash(const struct page_map *map, size_t page)
{
	uint64_t hash = 0;

	memcpy(&hash, map->hashes + page * HASH_BYTES, HASH_BYTES);
	return hash;
}

void page_map_set_hash(struct page_map *map, size_t page, uint64_t hash)
{
	_Static_assert(PAGE_MAP_HASH_MASK == (1ull << HASH_BYTES * 8) - 1, "a hash fits");
	memcpy(map->hashes + page * HASH_BYTES, &hash, HASH_BYTES);
}

uint64_t page_map_version(const struct page_map *map, size_t page)
{
	return map->chunks[page / PAGE_MAP_CHUNK].version;
}

void page_map_chunk_counts(const struct page_map *map, size_t page,
			   uint64_t counts[static PAGE_STATES])
{
	const struct chunk *chunk = &map->chunks[page / PAGE_MAP_CHUNK];

	for (int state = 0; state < PAGE_STATES; state++)
		counts[state] = atomic_load_explicit(&chunk->counts[state], memory_order_relaxed);
}

void page_map_counts(const struct page_map *map, uint64_t counts[static PAGE_STATES])
{
	memset(counts, 0, PAGE_STATES * sizeof(counts[0]));
	for (size_t i = 0; i < map->chunk_count; i++) {
		uint64_t chunk[PAGE_STATES];

		page_map_chunk_counts(map, i * PAGE_MAP_CHUNK, chunk);
		for (int state = 0; state < PAGE_STATES; state++)
			counts[state] += chunk[state];
	}
}

/* How much of a mapping is in RAM, by mincore(2). */
static uint64_t populated(void *address, size_t length)
{
	const size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
	unsigned char present[256];
	uint64_t bytes = 0;

	for (size_t at = 0; at < length; at += sizeof(present) * page_size) {
		size_t piece = length - at < sizeof(present) * page_size
				       ? length - at
				       : sizeof(present) * page_size;

		if (mincore((uint8_t *)address + at, piece, present))
			continue;
		for (size_t i = 0; i * page_size < piece; i++)
			bytes += present[i] & 1 ? page_size : 0;
	}
	return bytes;
}

uint64_t page_map_ram_bytes(const struct page_map *map)
{
	return populated(map->words, map->pages * sizeof(*map->words)) +
	       populated(map->hashes, map->pages * HASH_BYTES) +
	       map->chunk_count * sizeof(*map->chunks);
}

