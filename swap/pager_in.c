/*
 * Bringing pages back that no fault asked for: swap in, and the working set.
 *
 * Each thread has two *loads*: while one is mapped, the store reads the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "swap/buffer.h"
#include "swap/pager_internal.h"
#include "vmm/base/clock.h"

/* Pages of a load (1 MiB). A chunk is a whole number of loads. */
#define LOAD_PAGES 256u

/* Pages mapped under one hold of a chunk's lock: what a fault may have to wait for. */
#define BATCH 64u

/* Remembered pages that a thread takes at once. */
#define WORKING_SET_STRETCH 128u

#define LOADS 2u

/* Before asking the kernel again what it answered by EAGAIN. */
#define RETRY_NS (50 * NS_PER_US)

_Static_assert(PAGE_MAP_CHUNK % LOAD_PAGES == 0 && LOAD_PAGES <= STORE_BATCH_MAX &&
		       LOADS <= STORE_READS_MAX && WORKING_SET_STRETCH <= LOAD_PAGES,
	       "loads fit");

/* STAGED and SWAPPED pages, ascending. */
struct load {
	size_t count;
	size_t pages[LOAD_PAGES];
	struct page_entry entries[LOAD_PAGES]; /* as they were picked */
	size_t read_count;                     /* SWAPPED ones */
	store_location locations[LOAD_PAGES];  /* of those */
	void *targets[LOAD_PAGES];             /* and their places in data */
	bool reading;                          /* as .read */
	unsigned read;
	_Alignas(GUEST_PAGE_SIZE) uint8_t data[LOAD_PAGES][GUEST_PAGE_SIZE];
};

static int create_loads(struct pager_context *context)
{
	if (!context->loads)
		context->loads = buffer_map(LOADS * sizeof(struct load));
	return context->loads ? 0 : -ENOMEM;
}

void pager_destroy_loads(struct pager_context *context)
{
	buffer_unmap(context->loads, LOADS * sizeof(struct load));
	context->loads = NULL;
}

/* Picks @page if it is STAGED or SWAPPED. Its chunk is locked. */
static void pick(const struct pager *pager, struct load *load, size_t page)
{
	struct page_entry entry = page_map_get(pager->map, page);

	if (entry.state != PAGE_STAGED && entry.state != PAGE_SWAPPED)
		return;
	load->pages[load->count] = page;
	load->entries[load->count] = entry;
	if (entry.state == PAGE_SWAPPED) {
		load->locations[load->read_count] = entry.location;
		load->targets[load->read_count++] = load->data[load->count];
	}
	load->count++;
}

static void begin(struct pager_context *context, struct load *load)
{
	pager_give_way(context->pager);
	/* What cannot be begun is read when it is needed. */
	load->reading = load->read_count > 0 && !store_read_begin(context->reader, load->locations,
								  load->read_count, &load->read);
}

static bool is_as_picked(const struct pager *pager, const struct load *load, size_t i)
{
	return same_entry(page_map_get(pager->map, load->pages[i]), load->entries[i]);
}

/* True if a page is no longer as it was picked. */
static bool has_changed(struct pager *pager, const struct load *load)
{
	bool changed = false;

	for (size_t i = 0; i < load->count && !changed; i++) {
		page_map_lock(pager->map, load->pages[i]);
		changed = !is_as_picked(pager, load, i);
		page_map_unlock(pager->map, load->pages[i]);
	}
	return changed;
}

/* Leaves what still is as it was picked, to be read again. */
static void pick_again(struct pager *pager, struct load *load)
{
	size_t count = load->count;

	load->count = load->read_count = 0;
	for (size_t i = 0; i < count; i++) {
		size_t page = load->pages[i];

		page_map_lock(pager->map, page);
		pick(pager, load, page);
		page_map_unlock(pager->map, page);
	}
}

/* Has the load's pages read. 0 or what the store said, several times. */
static int finish_read(struct pager_context *context, struct load *load)
{
	int result = load->read_count == 0 ? 0 : -EIO;
	int tries = 0;

	if (load->reading)
		result = store_read_finish(context->reader, load->read, load->targets);
	load->reading = false;
	while (result && load->read_count > 0) {
		/* An entry that was dropped meanwhile may be unreadable, and need not be read. */
		if (has_changed(context->pager, load))
			pick_again(context->pager, load);
		else if (++tries > PAGER_STORE_READ_TRIES)
			return result == -EAGAIN ? -EIO : result;
		result = load->read_count == 0 ? 0
					       : store_read(context->reader, load->locations,
							    load->read_count, load->targets);
	}
	return 0;
}

/* The answer for one page that could not be mapped as it was thought to be. */
static int bring_back_one(struct pager *pager, size_t page, int reason)
{
	struct page_entry entry = page_map_get(pager->map, page);

	if (entry.state == PAGE_SWAPPED || (reason != -EEXIST && reason != -EFAULT))
		return reason;
	/* Discarded: there is nothing to bring back, and a fill would take memory again. */
	if (reason == -EFAULT && pager_is_hole(pager, page)) {
		if (entry.has_copy)
			store_drop(pager->store, entry.location);
		page_map_set(pager->map, page, (struct page_entry){.state = PAGE_EMPTY});
		return 0;
	}
	return pager_resolve_local(pager, page, entry);
}

static int continue_run(struct pager *pager, size_t first, size_t count, size_t *done)
{
	size_t bytes = 0;
	int result = uffd_continue(pager->uffd, pager_guest_address(pager, first),
				   count * GUEST_PAGE_SIZE, &bytes);

	*done = bytes / GUEST_PAGE_SIZE;
	for (size_t i = 0; i < *done; i++)
		pager_set_resident(pager, first + i, page_map_get(pager->map, first + i));
	return result;
}

/*
 * Maps pages [*next, end) of the load, which lie in one chunk that is locked: STAGED ones by CONTINUE,
 * SWAPPED ones by COPY, runs in one call. Pages that have changed since they were picked were touched
 * or discarded, and need nothing. *next: how far it came.
 */
static int bring_back(struct pager *pager, struct load *load, size_t *next, size_t end,
		      uint64_t *moved)
{
	int result = 0;

	while (*next < end && !result) {
		size_t i = *next, run = i, done = 0, first = load->pages[i];
		enum page_state state = load->entries[i].state;

		while (run < end && load->entries[run].state == state &&
		       load->pages[run] == first + (run - i) && is_as_picked(pager, load, run))
			run++;
		if (run == i) {
			(*next)++;
			continue;
		}
		if (state == PAGE_STAGED)
			result = continue_run(pager, first, run - i, &done);
		else
			result = pager_copy_in(pager, first, run - i, load->data[i], &done);
		if (state == PAGE_SWAPPED)
			pager_count(pager, COUNT_SWAPPED_IN, done);
		*moved += done;
		*next += done;
		if (result) {
			result = bring_back_one(pager, first + done, result);
			*next += !result;
		}
	}
	return result;
}

static int finish(struct pager_context *context, struct load *load, struct pager_job *job)
{
	struct pager *pager = context->pager;
	size_t next = 0;
	int result = finish_read(context, load);

	while (!result && next < load->count) {
		size_t first = load->pages[next], end = next + 1;
		uint64_t moved = 0;

		while (end < load->count && end - next < BATCH &&
		       load->pages[end] / PAGE_MAP_CHUNK == first / PAGE_MAP_CHUNK)
			end++;
		guest_memory_fill_begin(pager->memory);
		pager_pass_events(pager);
		page_map_lock(pager->map, first);
		result = bring_back(pager, load, &next, end, &moved);
		page_map_unlock(pager->map, first);
		guest_memory_fill_end(pager->memory);
		job->moved += moved;
		if (result == -EAGAIN && !atomic_load(&job->stop)) {
			nanosleep(&(struct timespec){.tv_nsec = RETRY_NS}, NULL);
			result = 0;
		}
	}
	load->count = load->read_count = 0;
	return result == -EAGAIN ? -ECANCELED : result;
}

/* Fills the load with the next pages of the job. False: there are none. */
typedef bool (*next_load)(struct pager_context *context, struct pager_job *job, struct load *load);

static int run(struct pager_context *context, struct pager_job *job, next_load next)
{
	int result = create_loads(context);
	struct load *loads = context->loads;
	size_t current = 0;
	bool more;

	if (result)
		return pager_end_job(job, result);
	more = next(context, job, &loads[current]);
	if (more)
		begin(context, &loads[current]);
	while (more && !result) {
		struct load *ahead = &loads[(current + 1) % LOADS];

		more = next(context, job, ahead);
		if (more)
			begin(context, ahead);
		result = finish(context, &loads[current], job);
		current = (current + 1) % LOADS;
	}
	/* What was begun must be finished; after a failure it is not mapped. */
	if (loads[current].reading)
		store_read_finish(context->reader, loads[current].read, loads[current].targets);
	loads[current].reading = false;
	loads[current].count = loads[current].read_count = 0;
	return pager_end_job(job, result);
}

static bool next_stretch(struct pager_context *context, struct pager_job *job, struct load *load)
{
	struct pager *pager = context->pager;
	size_t first, end;

	load->count = load->read_count = 0;
	while (load->count == 0) {
		if (!pager_take(job, page_map_pages(pager->map), LOAD_PAGES, &first, &end))
			return false;
		job->done += end - first;
		page_map_lock(pager->map, first);
		for (size_t page = first; page < end; page++)
			pick(pager, load, page);
		page_map_unlock(pager->map, first);
	}
	return true;
}

int pager_swap_in(struct pager_context *context, struct pager_job *job)
{
	return run(context, job, next_stretch);
}

static int compare_pages(const void *a, const void *b)
{
	const size_t *left = a, *right = b;

	return (*left > *right) - (*left < *right);
}

static bool next_remembered(struct pager_context *context, struct pager_job *job, struct load *load)
{
	struct pager *pager = context->pager;
	size_t pages[WORKING_SET_STRETCH];
	size_t first, end;

	load->count = load->read_count = 0;
	while (load->count == 0) {
		if (!pager_take(job, working_set_count(pager->working_set), WORKING_SET_STRETCH,
				&first, &end))
			return false;
		job->done += end - first;
		for (size_t i = first; i < end; i++)
			pages[i - first] = working_set_page(pager->working_set, i);
		/* Ascending: what lies side by side goes in one transfer, and is mapped by one call. */
		qsort(pages, end - first, sizeof(pages[0]), compare_pages);
		for (size_t i = 0; i < end - first; i++) {
			page_map_lock(pager->map, pages[i]);
			pick(pager, load, pages[i]);
			page_map_unlock(pager->map, pages[i]);
		}
	}
	return true;
}

int pager_working_set(struct pager_context *context, struct pager_job *job)
{
	return run(context, job, next_remembered);
}
