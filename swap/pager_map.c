/* Where the pages of a range are. No chunk is locked for longer than a look at its pages takes. */
#include "swap/pager_internal.h"

/* Swapped pages of a range that are looked at, where not all of them are. */
#define SAMPLES 16u

static enum swap_place place_of(const struct pager *pager, struct page_entry entry)
{
	switch (entry.state) {
	case PAGE_RESIDENT:
		return SWAP_PLACE_RESIDENT;
	case PAGE_STAGED:
	case PAGE_WRITING:
		return SWAP_PLACE_STAGED;
	case PAGE_SWAPPED:
		break;
	default:
		return SWAP_PLACE_EMPTY;
	}
	switch (store_place(pager->store, entry.location)) {
	case STORE_PLACE_NOWHERE:
		return SWAP_PLACE_FILLED;
	case STORE_PLACE_POOL:
		return SWAP_PLACE_POOL;
	default:
		return SWAP_PLACE_DISK;
	}
}

/* Looks at every page of a stretch of one chunk. */
static void walk_chunk(struct pager *pager, size_t first, size_t end, struct swap_map_cell *cell)
{
	page_map_lock(pager->map, first);
	for (size_t page = first; page < end; page++)
		cell->pages[place_of(pager, page_map_get(pager->map, page))]++;
	page_map_unlock(pager->map, first);
}

/* Divides @swapped pages of the range among the places where some of them were found. */
static void divide_swapped(struct pager *pager, size_t first, size_t end, uint64_t swapped,
			   struct swap_map_cell *cell)
{
	struct swap_map_cell found = {0};
	size_t step = (end - first) / SAMPLES;
	uint64_t sum, pool, filled;

	for (size_t i = 0; i < SAMPLES; i++)
		walk_chunk(pager, first + i * step, first + i * step + 1, &found);
	pool = found.pages[SWAP_PLACE_POOL];
	filled = found.pages[SWAP_PLACE_FILLED];
	sum = pool + filled + found.pages[SWAP_PLACE_DISK];
	pool = sum ? swapped * pool / sum : 0;
	filled = sum ? swapped * filled / sum : 0;
	cell->pages[SWAP_PLACE_POOL] += pool;
	cell->pages[SWAP_PLACE_FILLED] += filled;
	cell->pages[SWAP_PLACE_DISK] += swapped - pool - filled;
}

void pager_map_cell(struct pager *pager, size_t first, size_t end, bool exact,
		    struct swap_map_cell *cell)
{
	uint64_t swapped = 0;
	size_t next;

	*cell = (struct swap_map_cell){0};
	for (size_t page = first; page < end; page = next) {
		uint64_t counts[PAGE_STATES];

		next = min_size(end, (page / PAGE_MAP_CHUNK + 1) * PAGE_MAP_CHUNK);
		if (exact || next - page < PAGE_MAP_CHUNK) {
			walk_chunk(pager, page, next, cell);
			continue;
		}
		page_map_chunk_counts(pager->map, page, counts);
		cell->pages[SWAP_PLACE_EMPTY] += counts[PAGE_EMPTY];
		cell->pages[SWAP_PLACE_RESIDENT] += counts[PAGE_RESIDENT];
		cell->pages[SWAP_PLACE_STAGED] += counts[PAGE_STAGED] + counts[PAGE_WRITING];
		swapped += counts[PAGE_SWAPPED];
	}
	if (swapped)
		divide_swapped(pager, first, end, swapped, cell);
}
