/* The answer to a fault. */
#include <errno.h>

#include "swap/pager_internal.h"

void pager_set_resident(struct pager *pager, size_t page, struct page_entry entry)
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
	pager_set_resident(pager, page, (struct page_entry){.state = PAGE_EMPTY});
	return 0;
}

/* The map says that the page is in the memfd, and it is not: the guest has discarded it. */
static int resolve_discarded(struct pager *pager, size_t page, struct page_entry entry)
{
	int result;

	if (entry.has_copy)
		pager_drop(pager, entry.location);
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
	pager_set_resident(pager, page, entry);
	return 0;
}

int pager_resolve_local(struct pager *pager, size_t page, struct page_entry entry)
{
	int result;

	if (entry.state != PAGE_EMPTY)
		return resolve_present(pager, page, entry);
	result = fill_zero(pager, page);
	/* Populated before swap was enabled, or a discard whose punch is still to come. */
	return result == -EEXIST ? resolve_present(pager, page, entry) : result;
}

/*
 * Maps a run of STAGED pages at once, for a toucher that goes through memory in order. False: not
 * even the first one; it is to be answered alone.
 */
static bool continue_run(struct pager *pager, size_t page)
{
	size_t length = read_ahead_length(&pager->read_ahead, page), run = 0, done = 0;
	size_t first, end;

	if (length == 1)
		return false;
	pager_next_stretch(pager, page, length, &first, &end);
	while (page + run < end && page_map_get(pager->map, page + run).state == PAGE_STAGED)
		run++;
	if (run <= 1)
		return false;
	uffd_continue(pager->uffd, pager_guest_address(pager, page), run * GUEST_PAGE_SIZE, &done);
	done /= GUEST_PAGE_SIZE;
	for (size_t i = 0; i < done; i++)
		pager_set_resident(pager, page + i, page_map_get(pager->map, page + i));
	if (done == 0)
		return false;
	pager_count(pager, COUNT_CONTINUED, 1);
	pager_count(pager, COUNT_AHEAD, done - 1);
	read_ahead_done(&pager->read_ahead, page, done);
	return true;
}

static int answer_local(struct pager *pager, size_t page, struct page_entry entry,
			enum pager_answer *answer)
{
	int result;

	*answer = entry.state == PAGE_EMPTY ? PAGER_ANSWER_ZERO : PAGER_ANSWER_PRESENT;
	if (entry.state == PAGE_STAGED && continue_run(pager, page))
		return 0;
	result = pager_resolve_local(pager, page, entry);
	if (!result && entry.state == PAGE_STAGED)
		read_ahead_done(&pager->read_ahead, page, 1);
	else if (!result && entry.state == PAGE_EMPTY)
		read_ahead_skip(&pager->read_ahead, page);
	return result;
}

int pager_copy_in(struct pager *pager, size_t first, size_t count, const uint8_t *data,
		  size_t *done)
{
	size_t bytes = 0;
	int result = uffd_copy(pager->uffd, pager_guest_address(pager, first), data,
			       count * GUEST_PAGE_SIZE, &bytes);

	*done = bytes / GUEST_PAGE_SIZE;
	for (size_t i = 0; i < *done; i++) {
		page_map_set_hash(pager->map, first + i,
				  pager_hash(pager, data + i * GUEST_PAGE_SIZE));
		pager_set_resident(pager, first + i, page_map_get(pager->map, first + i));
	}
	if (result != -EEXIST)
		return result == -EFAULT ? -EIO : result; /* -EFAULT means an address outside */
	/*
	 * The store alone has a SWAPPED page. Whatever is in the memfd is a zero page that somebody
	 * made by looking there (a debugger, /proc/PID/mem): it must not win.
	 */
	result = guest_memory_punch(pager->memory, (first + *done) * GUEST_PAGE_SIZE,
				    GUEST_PAGE_SIZE);
	return result ? result : -EAGAIN;
}

/* Maps the first @count fetched pages, runs in one call. Locked. Results as pager_copy_in(). */
static int copy_runs(struct pager *pager, const struct fetch *fetch, size_t count, size_t *done)
{
	int result = 0;

	*done = 0;
	while (*done < count && !result) {
		size_t first = *done, run = first + 1, copied = 0;

		while (run < count && fetch->pages[run] == fetch->pages[first] + (run - first))
			run++;
		result = pager_copy_in(pager, fetch->pages[first], run - first,
				       fetch->data + first * GUEST_PAGE_SIZE, &copied);
		*done += copied;
	}
	return result;
}

/*
 * Maps what was fetched. -EAGAIN: it is not what is wanted any more, or not now. A fault is answered
 * also while discards are under way, but nothing else is brought along then.
 */
static int copy_fetched(struct pager_context *context)
{
	struct pager *pager = context->pager;
	struct fetch *fetch = &context->fetch;
	bool filling = guest_memory_fill_try_begin(pager->memory);
	size_t count, done = 0;
	int result = -EAGAIN;

	if (!filling)
		fetch->count = fetch->reach = 1;
	pager_pass_events(pager);
	page_map_lock(pager->map, fetch->pages[0]);
	count = pager_fetched(pager, fetch);
	if (count > 0)
		result = copy_runs(pager, fetch, count, &done);
	for (size_t i = 0; i < done; i++)
		working_set_note(pager->working_set, fetch->pages[i]);
	if (done > 0) {
		pager_count(pager, COUNT_COPIED, 1);
		pager_count(pager, COUNT_AHEAD, done - 1);
	}
	page_map_unlock(pager->map, fetch->pages[0]);
	if (filling)
		guest_memory_fill_end(pager->memory);
	if (done == 0)
		return result;
	read_ahead_done(&pager->read_ahead, fetch->pages[0],
			done == fetch->count ? fetch->reach : fetch->pages[done] - fetch->pages[0]);
	return 0;
}

/* True: answered, *result says how it went. False: the page is SWAPPED, and its fetch is planned. */
static bool try_local(struct pager_context *context, size_t page, enum pager_answer *answer,
		      int *result)
{
	struct pager *pager = context->pager;
	struct page_entry entry;
	bool local;

	page_map_lock(pager->map, page);
	entry = page_map_get(pager->map, page);
	local = entry.state != PAGE_SWAPPED;
	if (local)
		*result = answer_local(pager, page, entry, answer);
	else
		pager_plan_fetch(pager, &context->fetch, page,
				 read_ahead_length(&pager->read_ahead, page));
	page_map_unlock(pager->map, page);
	return local;
}

static int answer_from_store(struct pager_context *context)
{
	int result = pager_fetch(context);

	if (!result)
		result = copy_fetched(context);
	if (result == -EAGAIN)
		pager_count(context->pager, COUNT_RETRIED, 1);
	return result;
}

int pager_fault(struct pager_context *context, uint64_t address, enum pager_answer *answer)
{
	struct pager *pager = context->pager;
	size_t page;
	int result;

	if (!pager_find_pages(pager, address, address + 1, &page))
		return -EFAULT;
	if (!try_local(context, page, answer, &result)) {
		if (store_place(pager->store, context->fetch.locations[0]) == STORE_PLACE_FILE)
			return 1;
		*answer = PAGER_ANSWER_POOL;
		return answer_from_store(context);
	}
	if (result == -EAGAIN)
		pager_count(pager, COUNT_RETRIED, 1);
	return result;
}

int pager_fault_read(struct pager_context *context, enum pager_answer *answer)
{
	struct pager *pager = context->pager;
	int result;

	*answer = PAGER_ANSWER_FILE;
	atomic_fetch_add_explicit(&pager->disk_faults, 1, memory_order_relaxed);
	result = answer_from_store(context);
	atomic_fetch_sub_explicit(&pager->disk_faults, 1, memory_order_relaxed);
	return result;
}
