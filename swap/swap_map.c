/* swap_get_map(): from the page map while there is one, else from the memfd. */
#include <string.h>

#include "swap/swap_internal.h"

/* Of so many pages every one is looked at: a few milliseconds. Larger guests are sampled. */
#define EXACT_PAGES (1u << 18)

/* Pages of the memfd that are looked at side by side in a larger guest. */
#define RUN_PAGES 16u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t present(const struct swap *swap, uint64_t first, uint64_t pages)
{
	uint64_t count = 0;

	guest_memory_count_present(swap->memory, first * GUEST_PAGE_SIZE, pages * GUEST_PAGE_SIZE,
				   &count);
	return count;
}

/* While swap is disabled a page is in the memfd or nowhere. */
static void map_memory(const struct swap *swap, uint64_t first, uint64_t end, uint64_t looks,
		       struct swap_map_cell *cell)
{
	uint64_t pages = end - first;
	uint64_t runs = looks / RUN_PAGES;
	uint64_t count = 0;

	*cell = (struct swap_map_cell){0};
	if (looks >= pages || runs == 0) {
		count = present(swap, first, pages);
	} else {
		for (uint64_t i = 0; i < runs; i++)
			count += present(swap, first + pages / runs * i, RUN_PAGES);
		count = pages * count / (runs * RUN_PAGES);
	}
	cell->pages[SWAP_PLACE_RESIDENT] = count;
	cell->pages[SWAP_PLACE_EMPTY] = pages - count;
}

uint64_t swap_map_cell_pages(const struct swap *swap, size_t cells)
{
	uint64_t pages = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE;
	uint64_t each = (pages + cells - 1) / cells;

	/* Whole chunks are counted without a look at their pages. */
	if (pages > EXACT_PAGES && each > PAGE_MAP_CHUNK)
		each = (each + PAGE_MAP_CHUNK - 1) / PAGE_MAP_CHUNK * PAGE_MAP_CHUNK;
	return each;
}

size_t swap_get_map(struct swap *swap, uint64_t cell_pages, size_t max, struct swap_map_cell *cells,
		    bool *exact)
{
	uint64_t pages = guest_memory_size(swap->memory) / GUEST_PAGE_SIZE;
	size_t count = (size_t)min_u64(max, (pages + cell_pages - 1) / cell_pages);
	struct pager *pager;

	*exact = pages <= EXACT_PAGES;
	pthread_rwlock_rdlock(&swap->session_lock);
	pager = swap->session ? swap->session->pager : NULL;
	for (size_t i = 0; i < count; i++) {
		uint64_t first = i * cell_pages;
		uint64_t end = min_u64(pages, first + cell_pages);

		if (pager)
			pager_map_cell(pager, first, end, *exact, &cells[i]);
		else
			map_memory(swap, first, end, *exact ? UINT64_MAX : EXACT_PAGES / count,
				   &cells[i]);
	}
	pthread_rwlock_unlock(&swap->session_lock);
	return count;
}
