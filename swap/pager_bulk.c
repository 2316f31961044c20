/* The pager's bulk work: staging, zap, trim, write-out and swap-in, in small batches. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "swap/pager_internal.h"

/* Pages handled under one hold of a chunk's lock: what a fault may have to wait for. */
#define BATCH 128u

/* Pages zapped by one madvise() (32 MiB). */
#define ZAP_PIECE 8192u

_Static_assert(BATCH <= STORE_BATCH_MAX && PAGE_MAP_CHUNK % BATCH == 0,
	       "a batch is part of a chunk");

/* Batches that wait for one sync of the store (8 MiB). */
#define GROUP 16u

enum verdict {
	KEEP,        /* stays in the memfd */
	LEAVE_ZERO,  /* all zero: EMPTY */
	LEAVE_CLEAN, /* equals its stored copy: SWAPPED */
	LEAVE_STORED /* has been written: SWAPPED */
};

/* Pages of one chunk that an operation has picked, ascending, and what is to become of them. */
struct batch {
	size_t count;
	size_t pages[BATCH];
	struct page_entry entries[BATCH]; /* as they were when they were picked */
	enum verdict verdicts[BATCH];
	store_location stored[BATCH]; /* LEAVE_STORED: where */
};

struct batch *pager_batches_create(void)
{
	return calloc(GROUP, sizeof(struct batch));
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/*
 * Narrows [cursor, …) to the next stretch of at most @most pages inside one region and one chunk.
 * False: there is none.
 */
static bool next_stretch(const struct pager *pager, const struct pager_cursor *cursor, size_t most,
			 size_t *first, size_t *end)
{
	size_t chunk_end;

	if (!pager_next_in_region(pager, cursor->page, first, end))
		return false;
	chunk_end = (*first / PAGE_MAP_CHUNK + 1) * PAGE_MAP_CHUNK;
	*end = min_size(min_size(*end, chunk_end), *first + most);
	return true;
}

/* Finds the populated bytes at or after @page. False: no more. */
static bool find_data(const struct pager *pager, struct pager_cursor *cursor, size_t page,
		      int *result)
{
	uint64_t offset = page * GUEST_PAGE_SIZE;

	if (offset < cursor->data_end)
		return true;
	*result = guest_memory_next_data(pager->memory, offset, &cursor->data_start,
					 &cursor->data_end);
	return *result == 0;
}

int pager_stage(struct pager *pager, struct pager_cursor *cursor, size_t budget)
{
	size_t stop = cursor->page + budget;
	size_t first, end;
	int result = 0;

	while (next_stretch(pager, cursor, PAGE_MAP_CHUNK, &first, &end)) {
		size_t data_end;

		if (first >= stop)
			return 1;
		if (!find_data(pager, cursor, first, &result))
			return result == -ENXIO ? 0 : result;
		if (first * GUEST_PAGE_SIZE < cursor->data_start) {
			cursor->page = cursor->data_start / GUEST_PAGE_SIZE;
			continue;
		}
		data_end = cursor->data_end / GUEST_PAGE_SIZE;
		end = min_size(end, data_end);
		pthread_mutex_lock(&pager->removal_lock);
		page_map_lock(pager->map, first);
		for (size_t page = first; page < end; page++) {
			struct page_entry entry = page_map_get(pager->map, page);

			/* EMPTY and yet there: populated before the pager existed. */
			if (entry.state != PAGE_EMPTY && entry.state != PAGE_RESIDENT)
				continue;
			entry.state = PAGE_STAGED;
			page_map_set(pager->map, page, entry);
			pager_count(pager, COUNT_STAGED, 1);
			cursor->moved++;
		}
		page_map_unlock(pager->map, first);
		pthread_mutex_unlock(&pager->removal_lock);
		cursor->page = end;
	}
	return 0;
}

static int zap_piece(struct pager *pager, size_t first, size_t end)
{
	uint64_t start_address = (uint64_t)pager_guest_address(pager, first);
	uint64_t length = (end - first) * GUEST_PAGE_SIZE;
	int result;

	pthread_mutex_lock(&pager->zap_lock);
	pager->zap_start = start_address;
	pager->zap_end = start_address + length;
	pthread_mutex_unlock(&pager->zap_lock);

	result = guest_memory_zap(pager->memory, first * GUEST_PAGE_SIZE, length);
	if (result) {
		/* An event that was raised all the same has been read; let it be applied. */
		pthread_mutex_lock(&pager->removal_lock);
		pthread_mutex_lock(&pager->zap_lock);
		pager->zap_start = pager->zap_end = 0;
		pthread_mutex_unlock(&pager->zap_lock);
		pthread_mutex_unlock(&pager->removal_lock);
		return result;
	}

	/*
	 * madvise() returned when the event had been read, perhaps not yet applied: the announcement
	 * must stay until it is, or the event would count as a discard.
	 */
	pthread_mutex_lock(&pager->zap_lock);
	while (pager->zap_start != pager->zap_end)
		pthread_cond_wait(&pager->zap_applied, &pager->zap_lock);
	pthread_mutex_unlock(&pager->zap_lock);
	return 0;
}

int pager_zap(struct pager *pager, struct pager_cursor *cursor, size_t budget)
{
	size_t stop = cursor->page + budget;
	size_t first, end;

	while (pager_next_in_region(pager, cursor->page, &first, &end)) {
		int result;

		if (first >= stop)
			return 1;
		end = min_size(end, first + ZAP_PIECE);
		result = zap_piece(pager, first, end);
		if (result)
			return result;
		cursor->moved += end - first;
		cursor->page = end;
	}
	return 0;
}

/*
 * Picks the pages of [first, end), part of one chunk, that are in a state of @states (a bit each).
 * With @mark_writing, they become WRITING.
 */
static void pick(struct pager *pager, size_t first, size_t end, unsigned states, bool mark_writing,
		 struct batch *batch)
{
	batch->count = 0;
	page_map_lock(pager->map, first);
	for (size_t page = first; page < end; page++) {
		struct page_entry entry = page_map_get(pager->map, page);

		if (!(states & 1u << entry.state))
			continue;
		batch->pages[batch->count] = page;
		batch->entries[batch->count] = entry;
		batch->verdicts[batch->count++] = KEEP;
		if (mark_writing) {
			entry.state = PAGE_WRITING;
			page_map_set(pager->map, page, entry);
		}
	}
	page_map_unlock(pager->map, first);
}

static bool is_zero_page(const uint8_t *page)
{
	const uint64_t *words = (const uint64_t *)page;

	/* The first word decides for most pages; comparing the page with itself shifted does the
	 * rest. */
	return words[0] == 0 &&
	       !memcmp(page, page + sizeof(uint64_t), GUEST_PAGE_SIZE - sizeof(uint64_t));
}

/*
 * Which pages need not be written. Reads them through the pager view, without the lock: a page that
 * is touched meanwhile is no longer STAGED or WRITING when the verdict is carried out. A stored
 * copy that cannot be read is none: the data is in the memfd.
 */
static void judge(struct pager *pager, struct batch *batch)
{
	store_location locations[BATCH];
	void *copies[BATCH];
	size_t index[BATCH];
	size_t count = 0;

	for (size_t i = 0; i < batch->count; i++) {
		if (is_zero_page(pager_alias(pager, batch->pages[i]))) {
			batch->verdicts[i] = LEAVE_ZERO;
		} else if (batch->entries[i].has_copy) {
			locations[count] = batch->entries[i].location;
			copies[count] = pager->bounce + count * GUEST_PAGE_SIZE;
			index[count++] = i;
		}
	}
	if (count == 0 || pager_read_store(pager, locations, count, copies))
		return;
	for (size_t i = 0; i < count; i++)
		if (!memcmp(pager_alias(pager, batch->pages[index[i]]), copies[i], GUEST_PAGE_SIZE))
			batch->verdicts[index[i]] = LEAVE_CLEAN;
}

/* Changes page @i of @batch, which has left the memfd. */
static void take_out(struct pager *pager, const struct batch *batch, size_t i)
{
	struct page_entry entry = page_map_get(pager->map, batch->pages[i]);

	if (batch->verdicts[i] != LEAVE_CLEAN && entry.has_copy)
		store_drop(pager->store, entry.location);
	if (batch->verdicts[i] == LEAVE_ZERO) {
		entry = (struct page_entry){.state = PAGE_EMPTY};
		pager_count(pager, COUNT_TRIMMED_ZERO, 1);
	} else if (batch->verdicts[i] == LEAVE_CLEAN) {
		entry.state = PAGE_SWAPPED;
		pager_count(pager, COUNT_TRIMMED_CLEAN, 1);
	} else {
		entry = (struct page_entry){PAGE_SWAPPED, true, batch->stored[i]};
		pager_count(pager, COUNT_STORED, 1);
	}
	page_map_set(pager->map, batch->pages[i], entry);
}

/* Page @i stays: its write, if any, is thrown away, and a copy that it no longer equals too. */
static void keep(struct pager *pager, const struct batch *batch, size_t i)
{
	struct page_entry entry = page_map_get(pager->map, batch->pages[i]);

	if (batch->verdicts[i] == LEAVE_STORED)
		store_drop(pager->store, batch->stored[i]);
	if (entry.state == PAGE_WRITING)
		entry.state = PAGE_STAGED;
	else if (entry.state != PAGE_STAGED)
		return;
	if (batch->verdicts[i] == KEEP && entry.has_copy) {
		store_drop(pager->store, entry.location);
		entry.has_copy = false;
	}
	page_map_set(pager->map, batch->pages[i], entry);
}

/*
 * Carries the verdicts out, with one punch for each run of pages that leave the memfd. A page that is
 * no longer in state @expected was touched or discarded: it is left alone.
 */
static int settle(struct pager *pager, const struct batch *batch, enum page_state expected,
		  uint64_t *moved)
{
	int result = 0;
	size_t i = 0;

	if (batch->count == 0)
		return 0;
	page_map_lock(pager->map, batch->pages[0]);
	while (i < batch->count) {
		size_t run = i;

		while (run < batch->count && batch->verdicts[run] != KEEP &&
		       batch->pages[run] == batch->pages[i] + (run - i) &&
		       page_map_get(pager->map, batch->pages[run]).state == expected)
			run++;
		if (run > i && !result)
			result =
				guest_memory_punch(pager->memory, batch->pages[i] * GUEST_PAGE_SIZE,
						   (run - i) * GUEST_PAGE_SIZE);
		if (run == i || result) {
			keep(pager, batch, i++);
			continue;
		}
		*moved += run - i;
		for (; i < run; i++)
			take_out(pager, batch, i);
	}
	page_map_unlock(pager->map, batch->pages[0]);
	/* What stays was mapped in the pager view by reading it. */
	guest_memory_forget(pager->memory, batch->pages[0] * GUEST_PAGE_SIZE,
			    (batch->pages[batch->count - 1] - batch->pages[0] + 1) *
				    GUEST_PAGE_SIZE);
	return result;
}

int pager_trim(struct pager *pager, struct pager_cursor *cursor, size_t budget)
{
	size_t stop = cursor->page + budget;
	struct batch *batch = pager->batches;
	size_t first, end;

	while (next_stretch(pager, cursor, BATCH, &first, &end)) {
		int result;

		if (first >= stop)
			return 1;
		pick(pager, first, end, 1u << PAGE_STAGED, false, batch);
		judge(pager, batch);
		result = settle(pager, batch, PAGE_STAGED, &cursor->moved);
		if (result)
			return result;
		cursor->page = end;
	}
	return 0;
}

/* Writes what needs it. Pages behind a failure keep the verdict KEEP. */
static int write_pages(struct pager *pager, struct batch *batch)
{
	const void *data[BATCH];
	store_location locations[BATCH];
	size_t index[BATCH];
	size_t count = 0, done = 0;
	int result;

	for (size_t i = 0; i < batch->count; i++) {
		if (batch->verdicts[i] == KEEP) {
			data[count] = pager_alias(pager, batch->pages[i]);
			index[count++] = i;
		}
	}
	if (count == 0)
		return 0;
	result = store_put(pager->store, data, count, locations, &done);
	assert(done <= count);
	for (size_t i = 0; i < done; i++) {
		batch->verdicts[index[i]] = LEAVE_STORED;
		batch->stored[index[i]] = locations[i];
	}
	return result;
}

/* The disk did not take what was put: nothing of it counts. */
static void unwrite_pages(struct pager *pager, struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->verdicts[i] == LEAVE_STORED) {
			store_drop(pager->store, batch->stored[i]);
			batch->verdicts[i] = KEEP;
		}
	}
}

/*
 * Puts up to GROUP batches from @cursor on, so that one sync serves them all. *count batches are
 * WRITING afterwards, whatever the result.
 */
static int put_group(struct pager *pager, struct pager_cursor *cursor, size_t stop, size_t *count)
{
	size_t first, end;
	int result = 0;

	*count = 0;
	while (!result && *count < GROUP && next_stretch(pager, cursor, BATCH, &first, &end) &&
	       first < stop) {
		struct batch *batch = &pager->batches[*count];

		pick(pager, first, end, 1u << PAGE_STAGED, true, batch);
		if (batch->count > 0) {
			judge(pager, batch);
			result = write_pages(pager, batch);
			(*count)++;
		}
		cursor->page = end;
	}
	return result;
}

int pager_write_out(struct pager *pager, struct pager_cursor *cursor, size_t budget)
{
	size_t stop = cursor->page + budget;
	size_t first, end;

	while (next_stretch(pager, cursor, BATCH, &first, &end)) {
		struct pager_cursor ahead = *cursor;
		int written, synced, settled = 0;
		size_t count;

		if (first >= stop)
			return 1;
		written = put_group(pager, &ahead, stop, &count);
		synced = store_sync(pager->store);
		for (size_t i = 0; i < count; i++) {
			int result;

			if (synced)
				unwrite_pages(pager, &pager->batches[i]);
			result = settle(pager, &pager->batches[i], PAGE_WRITING, &cursor->moved);
			if (!settled)
				settled = result;
		}
		if (written || synced || settled)
			return written ? written : synced ? synced : settled;
		cursor->page = ahead.page;
	}
	return 0;
}

/* Ends a run of pages that was resolved as one: its first @done bytes are RESIDENT now. */
static size_t set_run_resident(struct pager *pager, const struct batch *batch, size_t first,
			       size_t done)
{
	size_t pages = done / GUEST_PAGE_SIZE;

	assert(first + pages <= batch->count);
	for (size_t i = first; i < first + pages; i++) {
		struct page_entry entry = page_map_get(pager->map, batch->pages[i]);

		entry.state = PAGE_RESIDENT;
		page_map_set(pager->map, batch->pages[i], entry);
	}
	return pages;
}

static bool is_as_picked(const struct pager *pager, const struct batch *batch, size_t i)
{
	struct page_entry now = page_map_get(pager->map, batch->pages[i]);

	return now.state == batch->entries[i].state && now.has_copy == batch->entries[i].has_copy &&
	       now.location == batch->entries[i].location;
}

/* The answer for one page that could not be mapped as it was thought to be. */
static int bring_back_one(struct pager *pager, size_t page, enum page_state state, int reason)
{
	struct page_entry entry = page_map_get(pager->map, page);

	/* Discarded: there is nothing to bring back, and a fill would take memory again. */
	if (state == PAGE_STAGED && reason == -EFAULT && pager_is_hole(pager, page)) {
		if (entry.has_copy)
			store_drop(pager->store, entry.location);
		page_map_set(pager->map, page, (struct page_entry){.state = PAGE_EMPTY});
		return 0;
	}
	if (reason == -EEXIST || reason == -EFAULT)
		return pager_resolve_locked(pager, page);
	return reason;
}

/*
 * Maps a batch: STAGED pages by CONTINUE, SWAPPED ones by COPY from @data (a page each, in the
 * batch's order). Pages that have changed since they were picked were touched or discarded, and need
 * nothing. Runs of pages go in one call. Locked. *reached: pages that are done.
 */
static int bring_back(struct pager *pager, const struct batch *batch, uint8_t *data,
		      uint64_t *moved, size_t *reached)
{
	size_t i = 0;
	int result = 0;

	while (i < batch->count && !result) {
		enum page_state state = batch->entries[i].state;
		uint8_t *address = pager_guest_address(pager, batch->pages[i]);
		size_t run = i, done = 0;

		while (run < batch->count && batch->entries[run].state == state &&
		       batch->pages[run] == batch->pages[i] + (run - i) &&
		       is_as_picked(pager, batch, run))
			run++;
		if (run == i) {
			i++;
			continue;
		}
		if (state == PAGE_STAGED)
			result = uffd_continue(pager->uffd, address, (run - i) * GUEST_PAGE_SIZE,
					       &done);
		else
			result = uffd_copy(pager->uffd, address, data + i * GUEST_PAGE_SIZE,
					   (run - i) * GUEST_PAGE_SIZE, &done);
		run = set_run_resident(pager, batch, i, done);
		if (state == PAGE_SWAPPED)
			pager_count(pager, COUNT_SWAPPED_IN, run);
		*moved += run;
		i += run;
		if (result) {
			assert(i < batch->count);
			result = bring_back_one(pager, batch->pages[i], state, result);
			i += !result;
		}
	}
	*reached = i;
	return result;
}

/* Reads the SWAPPED pages of a batch to their places in the bounce buffer. */
static int read_batch(struct pager *pager, const struct batch *batch)
{
	store_location locations[BATCH];
	void *pages[BATCH];
	size_t count = 0;

	for (size_t i = 0; i < batch->count; i++) {
		if (batch->entries[i].state == PAGE_SWAPPED) {
			locations[count] = batch->entries[i].location;
			pages[count++] = pager->bounce + i * GUEST_PAGE_SIZE;
		}
	}
	return count ? pager_read_store(pager, locations, count, pages) : 0;
}

/* True if a page is no longer as it was picked. */
static bool has_changed(struct pager *pager, const struct batch *batch)
{
	bool changed = false;

	page_map_lock(pager->map, batch->pages[0]);
	for (size_t i = 0; i < batch->count && !changed; i++)
		changed = !is_as_picked(pager, batch, i);
	page_map_unlock(pager->map, batch->pages[0]);
	return changed;
}

int pager_swap_in(struct pager *pager, struct pager_cursor *cursor, size_t budget)
{
	size_t stop = cursor->page + budget;
	struct batch *batch = pager->batches;
	size_t first, end;

	while (next_stretch(pager, cursor, BATCH, &first, &end)) {
		size_t reached;
		int result;

		if (first >= stop)
			return 1;
		pick(pager, first, end, 1u << PAGE_STAGED | 1u << PAGE_SWAPPED, false, batch);
		result = read_batch(pager, batch);
		/* An entry that a discard has dropped meanwhile may be unreadable, and need not be read. */
		if (result && has_changed(pager, batch))
			continue;
		if (result)
			return result;
		pthread_mutex_lock(&pager->removal_lock);
		page_map_lock(pager->map, first);
		result = bring_back(pager, batch, pager->bounce, &cursor->moved, &reached);
		page_map_unlock(pager->map, first);
		pthread_mutex_unlock(&pager->removal_lock);
		if (result) {
			assert(reached < batch->count);
			cursor->page = batch->pages[reached];
			return result;
		}
		cursor->page = end;
	}
	return 0;
}
