#include "swap/page_map.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STATE_MASK     0x7ull
#define COPY_FLAG      0x8ull
#define LOCATION_SHIFT 8

struct page_map {
	size_t pages;
	uint64_t *words; /* mmap: an untouched stretch costs nothing and is EMPTY */
	size_t chunks;
	pthread_mutex_t *locks;
	_Atomic int64_t counts[PAGE_STATES];
};

int page_map_create(size_t pages, struct page_map **out)
{
	struct page_map *map = calloc(1, sizeof(*map));

	if (!map)
		return -ENOMEM;
	map->pages = pages;
	map->chunks = (pages + PAGE_MAP_CHUNK - 1) / PAGE_MAP_CHUNK;
	map->words = mmap(NULL, pages * sizeof(*map->words), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map->words == MAP_FAILED)
		goto free_map;
	/* Huge pages would make the map of a mostly empty guest cost as much as a full one's. */
	madvise(map->words, pages * sizeof(*map->words), MADV_NOHUGEPAGE);
	map->locks = calloc(map->chunks, sizeof(*map->locks));
	if (!map->locks)
		goto unmap_words;
	for (size_t i = 0; i < map->chunks; i++)
		pthread_mutex_init(&map->locks[i], NULL);
	atomic_store(&map->counts[PAGE_EMPTY], (int64_t)pages);
	*out = map;
	return 0;

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
	for (size_t i = 0; i < map->chunks; i++)
		pthread_mutex_destroy(&map->locks[i]);
	free(map->locks);
	munmap(map->words, map->pages * sizeof(*map->words));
	free(map);
}

size_t page_map_pages(const struct page_map *map)
{
	return map->pages;
}

void page_map_lock(struct page_map *map, size_t page)
{
	pthread_mutex_lock(&map->locks[page / PAGE_MAP_CHUNK]);
}

void page_map_unlock(struct page_map *map, size_t page)
{
	pthread_mutex_unlock(&map->locks[page / PAGE_MAP_CHUNK]);
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

void page_map_set(struct page_map *map, size_t page, struct page_entry entry)
{
	enum page_state before = (enum page_state)(map->words[page] & STATE_MASK);

	assert(entry.location <= STORE_LOCATION_MAX);
	assert(entry.state != PAGE_SWAPPED || entry.has_copy);
	map->words[page] = (uint64_t)entry.state | (entry.has_copy ? COPY_FLAG : 0) |
			   (entry.has_copy ? entry.location << LOCATION_SHIFT : 0);
	if (before != entry.state) {
		atomic_fetch_sub_explicit(&map->counts[before], 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&map->counts[entry.state], 1, memory_order_relaxed);
	}
}

void page_map_counts(const struct page_map *map, uint64_t counts[static PAGE_STATES])
{
	for (int state = 0; state < PAGE_STATES; state++) {
		int64_t count = atomic_load_explicit(&map->counts[state], memory_order_relaxed);

		counts[state] = count > 0 ? (uint64_t)count : 0;
	}
}

const char *page_state_name(enum page_state state)
{
	static const char *const names[PAGE_STATES] = {"empty", "resident", "staged", "writing",
						       "swapped"};

	return state < PAGE_STATES ? names[state] : "invalid";
}
