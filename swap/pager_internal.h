/* What pager.c (faults) and pager_bulk.c (operations) share. Nobody else includes this. */
#ifndef EBB_SWAP_PAGER_INTERNAL_H
#define EBB_SWAP_PAGER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "swap/pager.h"

enum pager_counter {
	COUNT_ZEROED,
	COUNT_CONTINUED,
	COUNT_COPIED,
	COUNT_REDUNDANT,
	COUNT_RETRIED,
	COUNT_CANCELLED,
	COUNT_REMOVED,
	COUNT_STAGED,
	COUNT_STORED,
	COUNT_SWAPPED_IN,
	COUNT_TRIMMED_ZERO,
	COUNT_TRIMMED_CLEAN,
	PAGER_COUNTERS,
};

struct pager {
	const struct guest_memory *memory;
	const struct uffd *uffd;
	struct store *store;
	struct page_map *map;
	size_t region_count;
	struct pager_region regions[PAGER_REGIONS_MAX]; /* ascending */
	_Atomic uint64_t counters[PAGER_COUNTERS];

	/* Held from before events are read until their REMOVEs are applied. */
	pthread_mutex_t removal_lock;

	/* The zap that is under way, so that its REMOVE event is not taken for a discard. */
	pthread_mutex_t zap_lock;
	pthread_cond_t zap_applied;
	uint64_t zap_start, zap_end; /* host addresses; equal: none */

	/* The worker's own. */
	uint8_t *bounce; /* STORE_BATCH_MAX pages */
	struct batch *batches;
};

static inline void pager_count(struct pager *pager, enum pager_counter counter, uint64_t by)
{
	atomic_fetch_add_explicit(&pager->counters[counter], by, memory_order_relaxed);
}

/* What the worker works on; see pager_bulk.c. */
struct batch;
struct batch *pager_batches_create(void);

/* Where @page is in the guest view. An address to hand to the kernel, never to be touched. */
static inline uint8_t *pager_guest_address(const struct pager *pager, size_t page)
{
	return guest_memory_guest_view(pager->memory) + page * GUEST_PAGE_SIZE;
}

static inline uint8_t *pager_alias(const struct pager *pager, size_t page)
{
	return guest_memory_pager_view(pager->memory) + page * GUEST_PAGE_SIZE;
}

/* The first page at or after @page that lies in a region, and where that region ends. False: none.
 */
bool pager_next_in_region(const struct pager *pager, size_t page, size_t *first, size_t *end);

/* Answers for @page with its chunk locked; results as pager_fault(). */
int pager_resolve_locked(struct pager *pager, size_t page);

/* True if the memfd has no page there: it was discarded. */
bool pager_is_hole(const struct pager *pager, size_t page);

/* store_get() that tries again. */
int pager_read_store(struct pager *pager, const store_location locations[], size_t count,
		     void *const pages[]);

#endif
