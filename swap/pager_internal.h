/*
 * What the pager's files share: pager.c (life, events), pager_fault.c (answers), pager_fetch.c
 * (pages read from the store for them), pager_stage.c, pager_out.c, pager_in.c and pager_compact.c
 * (jobs), pager_parcel.c (what the two that write share). Nobody else includes this.
 */
#ifndef EBB_SWAP_PAGER_INTERNAL_H
#define EBB_SWAP_PAGER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "swap/pager.h"
#include "swap/read_ahead.h"
#include "swap/working_set.h"

enum pager_counter {
	COUNT_ZEROED,
	COUNT_CONTINUED,
	COUNT_COPIED,
	COUNT_AHEAD,
	COUNT_REDUNDANT,
	COUNT_RETRIED,
	COUNT_CANCELLED,
	COUNT_REMOVED,
	COUNT_STAGED,
	COUNT_STORED,
	COUNT_SWAPPED_IN,
	COUNT_TRIMMED_ZERO,
	COUNT_TRIMMED_CLEAN,
	COUNT_COMPACTED,
	PAGER_COUNTERS,
};

/* XXH3's own secret is public; with this one nobody can construct two pages of one hash. */
#define PAGER_SECRET_SIZE 192u

struct pager {
	const struct guest_memory *memory;
	const struct uffd *uffd;
	struct store *store;
	struct page_map *map;
	size_t region_count;
	struct pager_region regions[PAGER_REGIONS_MAX]; /* ascending */
	uint8_t secret[PAGER_SECRET_SIZE];
	void (*dropped)(void *opaque); /* NULL: nobody wants to know */
	void *dropped_opaque;

	_Atomic uint64_t counters[PAGER_COUNTERS];
	atomic_int disk_faults; /* that wait for the disk now */
	struct read_ahead read_ahead;
	struct working_set *working_set;

	/* Held from before events are read until their REMOVEs are applied. */
	pthread_mutex_t event_lock;

	/* The zap that is under way, so that its REMOVE event is not taken for a discard. */
	pthread_mutex_t zap_lock;
	pthread_cond_t zap_applied;
	uint64_t zap_start, zap_end; /* host addresses; equal: none */

	/* For pager_peek(), whoever calls it. */
	pthread_mutex_t peek_lock;
	struct pager_context *peek;
};

/*
 * SWAPPED pages of one chunk on their way from the store: those of a window of guest memory, ascending,
 * that lie side by side in the store.
 */
struct fetch {
	size_t reach; /* pages of the window, from the first one on; not all of them are SWAPPED */
	size_t count;
	size_t pages[READ_AHEAD_MAX];
	uint64_t version; /* of the chunk when the entries were taken */
	store_location locations[READ_AHEAD_MAX];
	bool begun; /* the store is reading it, as .read */
	unsigned read;
	uint8_t *data; /* READ_AHEAD_MAX pages */
};

struct pager_context {
	struct pager *pager;
	struct store_reader *reader;
	struct fetch fetch;
	/* Jobs only, made when the first one comes: */
	struct store_writer *writer;
	struct parcel *parcels; /* pager_parcel.h */
	struct load *loads;     /* pager_in.c */
};

static inline void pager_count(struct pager *pager, enum pager_counter counter, uint64_t by)
{
	atomic_fetch_add_explicit(&pager->counters[counter], by, memory_order_relaxed);
}

/* Where @page is in the guest view. An address to hand to the kernel, never to be touched. */
static inline uint8_t *pager_guest_address(const struct pager *pager, size_t page)
{
	return guest_memory_guest_view(pager->memory) + page * GUEST_PAGE_SIZE;
}

static inline uint8_t *pager_alias(const struct pager *pager, size_t page)
{
	return guest_memory_pager_view(pager->memory) + page * GUEST_PAGE_SIZE;
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline bool same_entry(struct page_entry a, struct page_entry b)
{
	return a.state == b.state && a.has_copy == b.has_copy && a.location == b.location;
}

/* The hash that a page is recognised by. */
uint64_t pager_hash(const struct pager *pager, const void *page);

/* The first page at or after @page that lies in a region, and where that region ends. False: none.
 */
bool pager_next_in_region(const struct pager *pager, size_t page, size_t *first, size_t *end);

/*
 * Narrows [page, …) to the next stretch of at most @most pages inside one region and one chunk.
 * False: there is none.
 */
bool pager_next_stretch(const struct pager *pager, size_t page, size_t most, size_t *first,
			size_t *end);

/* True if [start, end) of host addresses lies in regions; *page is its first page. */
bool pager_find_pages(const struct pager *pager, uint64_t start, uint64_t end, size_t *page);

/* True if the memfd has no page there: it was discarded. */
bool pager_is_hole(const struct pager *pager, size_t page);

/* Frees a stored copy outside of a job, and tells who wants to know. */
void pager_drop(struct pager *pager, store_location location);

/* After guest_memory_fill_begin(): every discard that has returned is applied. */
void pager_pass_events(struct pager *pager);

/* ---- pager_fault.c; with the page's chunk locked ---- */

/*
 * Maps a page that is in the memfd, or should be; or fills an EMPTY one with zeros. Results as
 * pager_fault(), but not for SWAPPED pages.
 */
int pager_resolve_local(struct pager *pager, size_t page, struct page_entry entry);

/* The page is in the memfd and mapped now. */
void pager_set_resident(struct pager *pager, size_t page, struct page_entry entry);

/*
 * Maps @count SWAPPED pages of one chunk with @data (a page each), remembers their hashes, and makes
 * them RESIDENT. Returns as uffd_copy(), -EAGAIN also if something was in the way that is gone now;
 * *done pages were mapped.
 */
int pager_copy_in(struct pager *pager, size_t first, size_t count, const uint8_t *data,
		  size_t *done);

/* ---- pager_fetch.c ---- */

/*
 * Plans to fetch the SWAPPED page @page, and those of the @most - 1 that follow it in the same chunk
 * which are SWAPPED too and lie behind it in the store; none from the disk if @page itself needs no
 * disk. With the chunk locked.
 */
void pager_plan_fetch(struct pager *pager, struct fetch *fetch, size_t page, size_t most);

/*
 * Reads what was planned, without any lock; if not all of it can be read, the first page alone. 0;
 * -EAGAIN: the first page's entry has changed, look again; else what the store said, several times.
 */
int pager_fetch(struct pager_context *context);

/* How many of the fetched pages, the first ones, are still what was planned. Locked. */
size_t pager_fetched(const struct pager *pager, const struct fetch *fetch);

/* ---- jobs ---- */

/* Takes the next @most pages of @job, or fewer, of @total. False: none are left, or .stop is set. */
bool pager_take(struct pager_job *job, size_t total, size_t most, size_t *first, size_t *end);

/*
 * Before a job's thread asks the disk for much: leaves it for a moment to faults that wait for it. Not
 * for long, however many come.
 */
void pager_give_way(struct pager *pager);

/* What a job's thread returns, and whether the others go on. */
int pager_end_job(struct pager_job *job, int result);

void pager_destroy_parcels(struct pager_context *context);
void pager_destroy_loads(struct pager_context *context);

#endif
