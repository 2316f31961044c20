/* Reading pages from the store without holding a lock, and peeking at them. */
#include <errno.h>
#include <string.h>

#include "swap/pager_internal.h"
#include "vmm/base/checked.h"

void pager_plan_fetch(struct pager *pager, struct fetch *fetch, size_t page, size_t most)
{
	size_t first, end;
	store_location last = 0;
	bool have_last = false, from_disk = false;

	fetch->count = 0;
	fetch->version = page_map_version(pager->map, page);
	pager_next_stretch(pager, page, most, &first, &end);
	for (; page < end; page++) {
		struct page_entry entry = page_map_get(pager->map, page);
		enum store_place place;

		/* Zero pages, and what is back already, lie between the others. */
		if (entry.state != PAGE_SWAPPED)
			continue;
		place = store_place(pager->store, entry.location);
		/* Who needs no disk for the first page must not come to wait for it: pager_fault(). */
		if (fetch->count == 0)
			from_disk = place == STORE_PLACE_FILE;
		else if (place == STORE_PLACE_FILE && !from_disk)
			break;
		/* Only what one transfer brings: a page from elsewhere would cost another one. */
		if (place != STORE_PLACE_NOWHERE) {
			if (have_last && !store_adjacent(last, entry.location))
				break;
			last = entry.location;
			have_last = true;
		}
		fetch->pages[fetch->count] = page;
		fetch->locations[fetch->count++] = entry.location;
	}
	fetch->reach = page - first;
}

size_t pager_fetched(const struct pager *pager, const struct fetch *fetch)
{
	size_t same = 0;

	if (page_map_version(pager->map, fetch->pages[0]) != fetch->version)
		return 0;
	while (same < fetch->count) {
		struct page_entry entry = page_map_get(pager->map, fetch->pages[same]);

		if (entry.state != PAGE_SWAPPED || entry.location != fetch->locations[same])
			break;
		same++;
	}
	return same;
}

static bool has_changed(struct pager *pager, const struct fetch *fetch)
{
	bool changed;

	page_map_lock(pager->map, fetch->pages[0]);
	changed = pager_fetched(pager, fetch) == 0;
	page_map_unlock(pager->map, fetch->pages[0]);
	return changed;
}

void pager_fault_begin(struct pager_context *context)
{
	struct fetch *fetch = &context->fetch;

	/* What cannot be begun is read when it is waited for. */
	fetch->begun =
		!store_read_begin(context->reader, fetch->locations, fetch->count, &fetch->read);
}

static int read_fetch(struct pager_context *context)
{
	struct fetch *fetch = &context->fetch;
	void *pages[READ_AHEAD_MAX];
	bool begun = fetch->begun;

	for (size_t i = 0; i < fetch->count; i++)
		pages[i] = fetch->data + i * GUEST_PAGE_SIZE;
	fetch->begun = false;
	return begun ? store_read_finish(context->reader, fetch->read, pages)
		     : store_read(context->reader, fetch->locations, fetch->count, pages);
}

int pager_fetch(struct pager_context *context)
{
	struct fetch *fetch = &context->fetch;
	int result = -EIO;

	for (int i = 0; i < PAGER_STORE_READ_TRIES && result; i++) {
		result = read_fetch(context);
		/* An entry that was dropped or moved meanwhile may be unreadable, and need not be read. */
		if (result && has_changed(context->pager, fetch))
			return -EAGAIN;
		/* A damaged neighbour is no reason to withhold this page. */
		if (result)
			fetch->count = 1;
	}
	/* -EAGAIN would mean that nothing is wrong. */
	return result == -EAGAIN ? -EIO : result;
}

/* From the pages that were fetched for an earlier peek, if they still are what they were. */
static bool peek_fetched(struct pager *pager, size_t page, uint64_t inside, void *buffer,
			 size_t length)
{
	const struct fetch *fetch = &pager->peek->fetch;
	size_t i = 0;

	while (i < fetch->count && fetch->pages[i] < page)
		i++;
	/* Pages of one fetch lie in one chunk: only if this is one of them, its chunk is locked. */
	if (i == fetch->count || fetch->pages[i] != page || i >= pager_fetched(pager, fetch))
		return false;
	memcpy(buffer, fetch->data + i * GUEST_PAGE_SIZE + inside, length);
	return true;
}

int pager_peek(struct pager *pager, uint64_t offset, void *buffer, size_t length)
{
	size_t page = offset / GUEST_PAGE_SIZE;
	uint64_t inside = offset % GUEST_PAGE_SIZE;
	int result;

	if (page >= page_map_pages(pager->map) || !range_within(inside, length, GUEST_PAGE_SIZE))
		return -EINVAL;
	pthread_mutex_lock(&pager->peek_lock);
	do {
		bool swapped;

		result = 0;
		page_map_lock(pager->map, page);
		swapped = page_map_get(pager->map, page).state == PAGE_SWAPPED;
		if (!swapped)
			result = guest_memory_read_offset(pager->memory, offset, buffer, length);
		else if (peek_fetched(pager, page, inside, buffer, length))
			swapped = false;
		else
			pager_plan_fetch(pager, &pager->peek->fetch, page, READ_AHEAD_MAX);
		page_map_unlock(pager->map, page);
		if (!swapped)
			break;
		result = pager_fetch(pager->peek);
		if (!result)
			result = -EAGAIN; /* look whether it still is the page */
		else
			pager->peek->fetch.count = 0;
	} while (result == -EAGAIN);
	pthread_mutex_unlock(&pager->peek_lock);
	return result;
}
