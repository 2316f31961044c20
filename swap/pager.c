#include "swap/pager.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "swap/pager_internal.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"

#define BOUNCE_SIZE (STORE_BATCH_MAX * GUEST_PAGE_SIZE)

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

int pager_create(const struct guest_memory *memory, const struct uffd *uffd, struct store *store,
		 const struct pager_region *regions, size_t count, struct pager **out)
{
	struct pager *pager = calloc(1, sizeof(*pager));
	int result;

	if (!pager)
		return -ENOMEM;
	pager->memory = memory;
	pager->uffd = uffd;
	pager->store = store;
	result = adopt_regions(pager, regions, count);
	if (result)
		goto free_pager;
	result = page_map_create(guest_memory_size(memory) / GUEST_PAGE_SIZE, &pager->map);
	if (result)
		goto free_pager;
	pager->bounce =
		mmap(NULL, BOUNCE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pager->bounce == MAP_FAILED) {
		result = -ENOMEM;
		goto destroy_map;
	}
	pager->batches = pager_batches_create();
	if (!pager->batches) {
		result = -ENOMEM;
		goto unmap_bounce;
	}
	pthread_mutex_init(&pager->removal_lock, NULL);
	pthread_mutex_init(&pager->zap_lock, NULL);
	pthread_cond_init(&pager->zap_applied, NULL);
	*out = pager;
	return 0;

unmap_bounce:
	munmap(pager->bounce, BOUNCE_SIZE);
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
	pthread_cond_destroy(&pager->zap_applied);
	pthread_mutex_destroy(&pager->zap_lock);
	pthread_mutex_destroy(&pager->removal_lock);
	free(pager->batches);
	munmap(pager->bounce, BOUNCE_SIZE);
	page_map_destroy(pager->map);
	free(pager);
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

/* The region that holds the byte at @offset of the view, or NULL. */
static const struct pager_region *find_region(const struct pager *pager, uint64_t offset)
{
	for (size_t i = 0; i < pager->region_count; i++)
		if (offset >= pager->regions[i].offset &&
		    offset - pager->regions[i].offset < pager->regions[i].length)
			return &pager->regions[i];
	return NULL;
}

/*
 * True if [start, end) of host addresses lies in regions, several adjacent ones perhaps: the kernel
 * merges their mappings. *page is its first page.
 */
static bool find_pages(const struct pager *pager, uint64_t start, uint64_t end, size_t *page)
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

int pager_read_store(struct pager *pager, const store_location locations[], size_t count,
		     void *const pages[])
{
	int result = -EIO;

	for (int i = 0; i < PAGER_STORE_READ_TRIES && result; i++)
		result = store_get(pager->store, locations, count, pages);
	/* -EAGAIN would mean that nothing is wrong. */
	return result == -EAGAIN ? -EIO : result;
}

bool pager_is_hole(const struct pager *pager, size_t page)
{
	uint64_t offset = page * GUEST_PAGE_SIZE;
	uint64_t start, end;

	return guest_memory_next_data(pager->memory, offset, &start, &end) || start > offset;
}

static void set_resident(struct pager *pager, size_t page, struct page_entry entry)
{
	if (entry.state == PAGE_WRITING)
		pager_count(pager, COUNT_CANCELLED, 1);
	entry.state = PAGE_RESIDENT;
	page_map_set(pager->map, page, entry);
}

static int fill_zero(struct pager *pager, size_t page)
{
	int result =
		uffd_zero(pager->uffd, pager_guest_address(pager, page), GUEST_PAGE_SIZE, NULL);

	if (result)
		return result;
	pager_count(pager, COUNT_ZEROED, 1);
	set_resident(pager, page, (struct page_entry){.state = PAGE_EMPTY});
	return 0;
}

/* The map says that the page is in the memfd, and it is not: the guest has discarded it. */
static int resolve_discarded(struct pager *pager, size_t page, struct page_entry entry)
{
	int result;

	if (entry.has_copy)
		store_drop(pager->store, entry.location);
	page_map_set(pager->map, page, (struct page_entry){.state = PAGE_EMPTY});
	result = fill_zero(pager, page);
	/* Filled in this moment: look again. */
	return result == -EEXIST ? -EAGAIN : result;
}

/* The page is in the memfd: map it. */
static int resolve_present(struct pager *pager, size_t page, struct page_entry entry)
{
	uint8_t *address = pager_guest_address(pager, page);
	int result = uffd_continue(pager->uffd, address, GUEST_PAGE_SIZE, NULL);

	switch (result) {
	case 0:
		pager_count(pager, COUNT_CONTINUED, 1);
		break;
	case -EEXIST:
		/* Mapped already: the fault is a second one for the same page. */
		pager_count(pager, COUNT_REDUNDANT, 1);
		result = uffd_wake(pager->uffd, address, GUEST_PAGE_SIZE);
		if (result)
			return result;
		break;
	case -EFAULT:
		/* The event of the discard may still be unread, or its punch came after the event. */
		return pager_is_hole(pager, page) ? resolve_discarded(pager, page, entry) : -EAGAIN;
	default:
		return result;
	}
	set_resident(pager, page, entry);
	return 0;
}

static int resolve_empty(struct pager *pager, size_t page, struct page_entry entry)
{
	int result = fill_zero(pager, page);

	/* Populated before swap was enabled, or a discard whose punch is still to come. */
	return result == -EEXIST ? resolve_present(pager, page, entry) : result;
}

static int resolve_swapped(struct pager *pager, size_t page, struct page_entry entry)
{
	_Alignas(GUEST_PAGE_SIZE) uint8_t data[GUEST_PAGE_SIZE];
	void *const buffer = data;
	int result = pager_read_store(pager, &entry.location, 1, &buffer);

	if (result)
		return result;
	result = uffd_copy(pager->uffd, pager_guest_address(pager, page), data, GUEST_PAGE_SIZE,
			   NULL);
	if (result == -EEXIST) {
		/*
		 * The store alone has a SWAPPED page. Whatever is in the memfd is a zero page that
		 * somebody made by looking there (a debugger, /proc/PID/mem): it must not win.
		 */
		result = guest_memory_punch(pager->memory, page * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
		return result ? result : -EAGAIN;
	}
	if (result)
		return result == -EFAULT ? -EIO : result; /* -EFAULT means an address outside */
	pager_count(pager, COUNT_COPIED, 1);
	set_resident(pager, page, entry);
	return 0;
}

int pager_resolve_locked(struct pager *pager, size_t page)
{
	struct page_entry entry = page_map_get(pager->map, page);

	switch (entry.state) {
	case PAGE_EMPTY:
		return resolve_empty(pager, page, entry);
	case PAGE_SWAPPED:
		return resolve_swapped(pager, page, entry);
	default:
		return resolve_present(pager, page, entry);
	}
}

int pager_fault(struct pager *pager, uint64_t address)
{
	size_t page;
	int result;

	if (!find_pages(pager, address, address + 1, &page))
		return -EFAULT;
	page_map_lock(pager->map, page);
	result = pager_resolve_locked(pager, page);
	page_map_unlock(pager->map, page);
	if (result == -EAGAIN)
		pager_count(pager, COUNT_RETRIED, 1);
	return result;
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

int pager_remove(struct pager *pager, uint64_t start, uint64_t end)
{
	uint64_t removed = 0;
	size_t first, behind;

	if (take_announced_zap(pager, start, end))
		return 0;
	if (!find_pages(pager, start, end, &first))
		return -EFAULT;
	behind = first + (end - start) / GUEST_PAGE_SIZE;
	for (size_t page = first; page < behind; page++) {
		struct page_entry entry;

		page_map_lock(pager->map, page);
		entry = page_map_get(pager->map, page);
		if (entry.has_copy)
			store_drop(pager->store, entry.location);
		removed += entry.state != PAGE_EMPTY;
		if (entry.state != PAGE_EMPTY)
			page_map_set(pager->map, page, (struct page_entry){.state = PAGE_EMPTY});
		page_map_unlock(pager->map, page);
	}
	pager_count(pager, COUNT_REMOVED, removed);
	return 0;
}

int pager_read_events(struct pager *pager, uint64_t faults[static UFFD_EVENTS_MAX],
		      size_t *fault_count, size_t *events)
{
	struct uffd_event batch[UFFD_EVENTS_MAX];
	int result;

	*fault_count = 0;
	pthread_mutex_lock(&pager->removal_lock);
	result = uffd_read_events(pager->uffd, batch, events);
	for (size_t i = 0; !result && i < *events; i++)
		if (batch[i].kind == UFFD_REMOVED &&
		    pager_remove(pager, batch[i].start, batch[i].end))
			log_error("swap: a remove event outside guest memory");
	pthread_mutex_unlock(&pager->removal_lock);
	for (size_t i = 0; !result && i < *events; i++)
		if (batch[i].kind != UFFD_REMOVED && batch[i].kind != UFFD_OTHER)
			faults[(*fault_count)++] = batch[i].start;
	return result;
}

bool pager_reclaim(struct pager *pager)
{
	return store_reclaim(pager->store);
}

int pager_peek(struct pager *pager, uint64_t offset, void *buffer, size_t length)
{
	_Alignas(GUEST_PAGE_SIZE) uint8_t data[GUEST_PAGE_SIZE];
	void *const whole = data;
	size_t page = offset / GUEST_PAGE_SIZE;
	uint64_t inside = offset % GUEST_PAGE_SIZE;
	struct page_entry entry;
	int result;

	if (page >= page_map_pages(pager->map) || !range_within(inside, length, GUEST_PAGE_SIZE))
		return -EINVAL;
	page_map_lock(pager->map, page);
	entry = page_map_get(pager->map, page);
	if (entry.state == PAGE_SWAPPED)
		result = pager_read_store(pager, &entry.location, 1, &whole);
	else
		result = guest_memory_read_offset(pager->memory, offset, buffer, length);
	page_map_unlock(pager->map, page);
	if (!result && entry.state == PAGE_SWAPPED)
		memcpy(buffer, data + inside, length);
	return result;
}

size_t pager_pages(const struct pager *pager)
{
	return page_map_pages(pager->map);
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
		.redundant = value[COUNT_REDUNDANT],
		.retried = value[COUNT_RETRIED],
		.cancelled = value[COUNT_CANCELLED],
		.removed = value[COUNT_REMOVED],
		.staged = value[COUNT_STAGED],
		.stored = value[COUNT_STORED],
		.swapped_in = value[COUNT_SWAPPED_IN],
		.trimmed_zero = value[COUNT_TRIMMED_ZERO],
		.trimmed_clean = value[COUNT_TRIMMED_CLEAN],
	};
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
