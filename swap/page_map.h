/*
 * The state of every page of guest RAM: one 64-bit word a page.
 *
 *    63                                                    8 7    4   3    2   0
 *   ┌───────────────────────────────────────────────────────┬──────┬──────┬─────┐
 *   │ location of the stored copy (swap/store.h)            │  0   │ copy │state│
 *   └───────────────────────────────────────────────────────┴──────┴──────┴─────┘
 *
 * A SWAPPED page has a stored copy. A RESIDENT or STAGED page may have one, of when it was last
 * swapped out: if it still equals that, it is *clean*. What it held when it was brought back is
 * remembered as a keyed hash of 56 bits beside the word, so that this is found without a read.
 *
 * Locks: a *chunk* is 2 MiB of guest RAM; page_map_lock() takes the chunk that a page lies in.
 * Words and hashes are read and written with their chunk's lock held. No thread takes two chunks at
 * once, and none touches the guest view while it holds one. Counts are exact when no lock is held.
 *
 * Memory: 15 bytes a page = 0.37 % of guest RAM, and only where pages ever left EMPTY (8) and came
 * back from the store (7).
 */
#ifndef EBB_SWAP_PAGE_MAP_H
#define EBB_SWAP_PAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "swap/store.h"

enum page_state {
	PAGE_EMPTY,    /* not in the memfd: reads as zeros */
	PAGE_RESIDENT, /* in the memfd, the guest may touch it without a fault */
	PAGE_STAGED,   /* in the memfd, the guest's next touch is a minor fault */
	PAGE_WRITING,  /* STAGED, and being written to the store */
	PAGE_SWAPPED,  /* in the store alone */
	PAGE_STATES,
};

/* Pages in a chunk. */
#define PAGE_MAP_CHUNK 512u

/* Bits of a hash that are kept. */
#define PAGE_MAP_HASH_MASK ((1ull << 56) - 1)

struct page_entry {
	enum page_state state;
	bool has_copy;
	store_location location; /* meaningful if has_copy */
};

struct page_map;

/* A map of @pages EMPTY pages. 0 or -ENOMEM. */
int page_map_create(size_t pages, struct page_map **out);
void page_map_destroy(struct page_map *map);

size_t page_map_pages(const struct page_map *map);

void page_map_lock(struct page_map *map, size_t page);
void page_map_unlock(struct page_map *map, size_t page);

/* With the page's chunk locked. */
struct page_entry page_map_get(const struct page_map *map, size_t page);
void page_map_set(struct page_map *map, size_t page, struct page_entry entry);
uint64_t page_map_hash(const struct page_map *map, size_t page);
void page_map_set_hash(struct page_map *map, size_t page, uint64_t hash);

/*
 * A number that changes whenever a page of @page's chunk is given a new stored copy. Locations are
 * used again: an entry that looks as it did before the lock was let go is the same one only if this
 * number is the same too.
 */
uint64_t page_map_version(const struct page_map *map, size_t page);

/* How many pages are in each state now. Any thread, no lock. */
void page_map_counts(const struct page_map *map, uint64_t counts[static PAGE_STATES]);

/* The same of the chunk that @page lies in. */
void page_map_chunk_counts(const struct page_map *map, size_t page,
			   uint64_t counts[static PAGE_STATES]);

/* Bytes of RAM that the map occupies now. Any thread. */
uint64_t page_map_ram_bytes(const struct page_map *map);

#endif
