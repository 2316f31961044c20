#include "swap/pager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <xxhash.h>

#include "swap/buffer.h"
#include "swap/pager_internal.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"

/* How bulk work waits for the disk to have served faults: a read each, a few at most. */
#define GIVE_WAY_NS    (50 * NS_PER_US)
#define GIVE_WAY_TIMES 3

static int compare_regions(const void *a, const void *b)
{
	const struct pager_region *left = a, *right = b;

	return (left->offset > right->offset) - (left->offset < right->offset);
}

static int adopt_regions(struct pager *pager, const struct pager_region *regions, size_t count)
{
	uint64_t end = 0;

	if (count == 0 || count > PAGER_REGIONS_MAX)
		return -EINVAL;
	memcpy(pager->regions, regions, count * sizeof(*regions));
	pager->region_count = count;
	qsort(pager->regions, count, sizeof(*regions), compare_regions);
	for (size_t i = 0; i < count; i++) {
		const struct pager_region *region = &pager->regions[i];

		if (region->length == 0 || region->offset < end ||
		    !is_aligned(region->offset | region->length, GUEST_PAGE_SIZE) ||
		    !range_within(region->offset, region->length, guest_memory_size(pager->memory)))
			return -EINVAL;
		end = region->offset + region->length;
	}
	return 0;
}

/*
 * A lock that is held for a microsecond, by threads of several CPUs whenever a fault wakes them all:
 * waiting for it asleep would take ten times as long.
 */
static void init_spinning(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

int pager_create(const struct guest_memory *memory, const struct uffd *uffd, struct store *store,
		 const struct pager_region *regions, size_t count, struct pager **out)
{
	struct pager *pager = calloc(1, sizeof(*pager));
	size_t pages = guest_memory_size(memory) / GUEST_PAGE_SIZE;
	int result;

	if (!pager)
		return -ENOMEM;
	pager->memory = memory;
	pager->uffd = uffd;
	pager->store = store;
	result = adopt_regions(pager, regions, count);
	if (result)
		goto free_pager;
	if (getrandom(pager->secret, sizeof(pager->secret), 0) != sizeof(pager->secret)) {
		result = -EIO;
		goto free_pager;
	}
	result = page_map_create(pages, &pager->map);
	if (result)
		goto free_pager;
	result = working_set_create(pages, &pager->working_set);
	if (result)
		goto destroy_map;
	result = pager_context_create(pager, &pager->peek);
	if (result)
		goto destroy_working_set;
	read_ahead_init(&pager->read_ahead);
	init_spinning(&pager->event_lock);
	pthread_mutex_init(&pager->zap_lock, NULL);
	pthread_cond_init(&pager->zap_applied, NULL);
	pthread_mutex_init(&pager->peek_lock, NULL);
	*out = pager;
	return 0;

destroy_working_set:
	working_set_destroy(pager->working_set);
destroy_map:
	page_map_destroy(pager->map);
free_pager:
	free(pager);
	return result;
}

void pager_destroy(struct pager *pager)
{
	if (!pager)
		return;
	pthread_mutex_destroy(&pager->peek_lock);
	pthread_cond_destroy(&pager->zap_applied);
	pthread_mutex_destroy(&pager->zap_lock);
	pthread_mutex_destroy(&pager->event_lock);
	read_ahead_destroy(&pager->read_ahead);
	pager_context_destroy(pager->peek);
	working_set_destroy(pager->working_set);
	page_map_destroy(pager->map);
	explicit_bzero(pager->secret, sizeof(pager->secret));
	free(pager);
}

void pager_on_drop(struct pager *pager, void (*dropped)(void *opaque), void *opaque)
{
	pager->dropped = dropped;
	pager->dropped_opaque = opaque;
}

int pager_context_create(struct pager *pager, struct pager_context **out)
{
	struct pager_context *context = calloc(1, sizeof(*context));
	int result = -ENOMEM;

	if (!context)
		return -ENOMEM;
	context->pager = pager;
	context->fetch.data = buffer_map(READ_AHEAD_MAX * GUEST_PAGE_SIZE);
	if (!context->fetch.data)
		goto free_context;
	result = store_reader_create(pager->store, &context->reader);
	if (result)
		goto unmap_data;
	*out = context;
	return 0;

unmap_data:
	buffer_unmap(context->fetch.data, READ_AHEAD_MAX * GUEST_PAGE_SIZE);
free_context:
	free(context);
	return result;
}

void pager_context_destroy(struct pager_context *context)
{
	if (!context)
		return;
	pager_destroy_loads(context);
	pager_destroy_parcels(context);
	store_writer_destroy(context->writer);
	store_reader_destroy(context->reader);
	buffer_unmap(context->fetch.data, READ_AHEAD_MAX * GUEST_PAGE_SIZE);
	free(context);
}

int pager_register(struct pager *pager)
{
	uint8_t *view = guest_memory_guest_view(pager->memory);
	size_t i;
	int result;

	for (i = 0; i < pager->region_count; i++) {
		result = uffd_register(pager->uffd, view + pager->regions[i].offset,
				       pager->regions[i].length,
				       UFFD_MODE_MISSING | UFFD_MODE_MINOR);
		if (result)
			goto unregister;
	}
	return 0;

unregister:
	while (i-- > 0)
		uffd_unregister(pager->uffd, view + pager->regions[i].offset,
				pager->regions[i].length);
	return result;
}

int pager_unregister(struct pager *pager)
{
	uint8_t *view = guest_memory_guest_view(pager->memory);
	int result = 0;

	for (size_t i = 0; i < pager->region_count; i++) {
		int one = uffd_unregister(pager->uffd, view + pager->regions[i].offset,
					  pager->regions[i].length);

		if (!result)
			result = one;
	}
	return result;
}

uint64_t pager_hash(const struct pager *pager, const void *page)
{
	return XXH3_64bits_withSecret(page, GUEST_PAGE_SIZE, pager->secret, sizeof(pager->secret)) &
	       PAGE_MAP_HASH_MASK;
}

bool pager_next_in_region(const struct pager *pager, size_t page, size_t *first, size_t *end)
{
	for (size_t i = 0; i < pager->region_count; i++) {
		size_t start = pager->regions[i].offset / GUEST_PAGE_SIZE;
		size_t behind = start + pager->regions[i].length / GUEST_PAGE_SIZE;

		if (page < behind) {
			*first = page > start ? page : start;
			*end = behind;
			return true;
		}
	}
	return false;
}

bool pager_next_stretch(const struct pager *pager, size_t page, size_t most, size_t *first,
			size_t *end)
{
	size_t chunk_end;

	if (!pager_next_in_region(pager, page, first, end))
		return false;
	chunk_end = (*first / PAGE_MAP_CHUNK + 1) * PAGE_MAP_CHUNK;
	*end = min_size(min_size(*end, chunk_end), *first + most);
	return true;
}

/* The region that holds the byte at @offset of the view, or NULL. */
static const struct pager_region *find_region(const struct pager *pager, uint64_t offset)
{
	for (size_t i = 0; i < pager->region_count; i++)
		if (offset >= pager->regions[i].offset &&
		    offset - pager->regions[i].offset < pager->regions[i].length)
			return &pager->regions[i];
	return NULL;
}

/* Several adjacent regions perhaps: the kernel merges their mappings. */
bool pager_find_pages(const struct pager *pager, uint64_t start, uint64_t end, size_t *page)
{
	uint64_t view = (uint64_t)guest_memory_guest_view(pager->memory);
	uint64_t offset = start - view;

	if (start < view || end <= start)
		return false;
	*page = offset / GUEST_PAGE_SIZE;
	while (offset < end - view) {
		const struct pager_region *region = find_region(pager, offset);

		if (!region)
			return false;
		offset = region->offset + region->length;
	}
	return true;
}

bool pager_is_hole(const struct pager *pager, size_t page)
{
	uint64_t offset = page * GUEST_PAGE_SIZE;
	uint64_t start, end;

	return guest_memory_next_data(pager->memory, offset, &start, &end) || start > offset;
}

void pager_drop(struct pager *pager, store_location location)
{
	store_drop(pager->store, location);
	if (pager->dropped)
		pager->dropped(pager->dropped_opaque);
}

/* True, once, for the event of the zap that is under way. */
static bool take_announced_zap(struct pager *pager, uint64_t start, uint64_t end)
{
	bool announced;

	pthread_mutex_lock(&pager->zap_lock);
	announced = start != end && start == pager->zap_start && end == pager->zap_end;
	if (announced) {
		pager->zap_start = pager->zap_end = 0;
		pthread_cond_signal(&pager->zap_applied);
	}
	pthread_mutex_unlock(&pager->zap_lock);
	return announced;
}

/* Removes the pages [first, end) of one chunk. Returns how many were not EMPTY. */
static uint64_t remove_stretch(struct pager *pager, size_t first, size_t end)
{
	uint64_t removed = 0;

	page_map_lock(pager->map, first);
	for (size_t page = first; page < end; page++) {
		struct page_entry entry = page_map_get(pager->map, page);

		if (entry.state == PAGE_EMPTY)
			continue;
		if (entry.has_copy)
			store_drop(pager->store, entry.location);
		page_map_set(pager->map, page, (struct page_entry){.state = PAGE_EMPTY});
		removed++;
	}
	page_map_unlock(pager->map, first);
	return removed;
}

int pager_remove(struct pager *pager, uint64_t start, uint64_t end)
{
	uint64_t removed = 0;
	size_t page, behind, first, end_of_stretch;

	if (take_announced_zap(pager, start, end))
		return 0;
	if (!pager_find_pages(pager, start, end, &page))
		return -EFAULT;
	behind = page + (end - start) / GUEST_PAGE_SIZE;
	while (page < behind &&
	       pager_next_stretch(pager, page, behind - page, &first, &end_of_stretch)) {
		removed += remove_stretch(pager, first, end_of_stretch);
		page = end_of_stretch;
	}
	pager_count(pager, COUNT_REMOVED, removed);
	if (removed > 0 && pager->dropped)
		pager->dropped(pager->dropped_opaque);
	return 0;
}

int pager_read_events(struct pager *pager, uint64_t faults[static UFFD_EVENTS_MAX],
		      size_t *fault_count, size_t *events)
{
	struct uffd_event batch[UFFD_EVENTS_MAX];
	int result;

	*fault_count = 0;
	pthread_mutex_lock(&pager->event_lock);
	result = uffd_read_events(pager->uffd, batch, events);
	for (size_t i = 0; !result && i < *events; i++)
		if (batch[i].kind == UFFD_REMOVED &&
		    pager_remove(pager, batch[i].start, batch[i].end))
			log_error("swap: a remove event outside guest memory");
	pthread_mutex_unlock(&pager->event_lock);
	for (size_t i = 0; !result && i < *events; i++)
		if (batch[i].kind != UFFD_REMOVED && batch[i].kind != UFFD_OTHER)
			faults[(*fault_count)++] = batch[i].start;
	return result;
}

void pager_pass_events(struct pager *pager)
{
	pthread_mutex_lock(&pager->event_lock);
	pthread_mutex_unlock(&pager->event_lock);
}

bool pager_take(struct pager_job *job, size_t total, size_t most, size_t *first, size_t *end)
{
	if (atomic_load(&job->stop))
		return false;
	*first = atomic_fetch_add(&job->next, most);
	if (*first >= total)
		return false;
	*end = min_size(*first + most, total);
	return true;
}

void pager_give_way(struct pager *pager)
{
	const struct timespec moment = {.tv_nsec = GIVE_WAY_NS};

	for (int i = 0; i < GIVE_WAY_TIMES; i++) {
		if (atomic_load_explicit(&pager->disk_faults, memory_order_relaxed) == 0)
			return;
		nanosleep(&moment, NULL);
	}
}

int pager_end_job(struct pager_job *job, int result)
{
	if (result)
		atomic_store(&job->stop, true);
	else if (atomic_load(&job->stop))
		result = -ECANCELED;
	return result;
}

void pager_learn_working_set(struct pager *pager)
{
	working_set_learn(pager->working_set);
}

size_t pager_working_set_pages(const struct pager *pager)
{
	return working_set_count(pager->working_set);
}

uint64_t pager_ram_bytes(const struct pager *pager)
{
	return page_map_ram_bytes(pager->map) + working_set_ram_bytes(pager->working_set);
}

void pager_get_counters(const struct pager *pager, struct pager_counters *counters)
{
	uint64_t value[PAGER_COUNTERS];

	for (int i = 0; i < PAGER_COUNTERS; i++)
		value[i] = atomic_load_explicit(&pager->counters[i], memory_order_relaxed);
	*counters = (struct pager_counters){
		.zeroed = value[COUNT_ZEROED],
		.continued = value[COUNT_CONTINUED],
		.copied = value[COUNT_COPIED],
		.ahead = value[COUNT_AHEAD],
		.redundant = value[COUNT_REDUNDANT],
		.retried = value[COUNT_RETRIED],
		.cancelled = value[COUNT_CANCELLED],
		.removed = value[COUNT_REMOVED],
		.staged = value[COUNT_STAGED],
		.stored = value[COUNT_STORED],
		.swapped_in = value[COUNT_SWAPPED_IN],
		.trimmed_zero = value[COUNT_TRIMMED_ZERO],
		.trimmed_clean = value[COUNT_TRIMMED_CLEAN],
		.compacted = value[COUNT_COMPACTED],
	};
}

void pager_counters_add(struct pager_counters *sum, const struct pager_counters *more)
{
	const uint64_t *from = (const uint64_t *)more;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "nothing but uint64_t");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(uint64_t); i++)
		to[i] += from[i];
}

void pager_get_counts(const struct pager *pager, uint64_t counts[static PAGE_STATES])
{
	page_map_counts(pager->map, counts);
}

enum page_state pager_page_state(struct pager *pager, size_t page)
{
	enum page_state state;

	page_map_lock(pager->map, page);
	state = page_map_get(pager->map, page).state;
	page_map_unlock(pager->map, page);
	return state;
}
