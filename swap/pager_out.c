/*
 * Taking pages out of the memfd: trim, and writing out.
 *
 * Pages that are being written are kept in *parcels*, as the store groups them: while one is filled,
 * up to STORE_PARCELS_MAX others are on their way to the disk. A parcel's pages leave the memfd when
 * the store has them safe.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "swap/pager_parcel.h"

/* Pages that a thread takes at once (4 MiB). */
#define STRETCH 1024u

/* Pages handled under one hold of a chunk's lock: what a fault may have to wait for. */
#define BATCH 64u

/* Pages of one chunk that were picked. */
struct picked {
	size_t count;
	struct {
		size_t page;
		bool has_copy;
		uint64_t hash; /* if it has a copy */
	} pages[BATCH];
};

/* Picks the STAGED pages of [first, end), part of one chunk. With @mark_writing, they are WRITING. */
static void pick(struct pager *pager, size_t first, size_t end, bool mark_writing,
		 struct picked *picked)
{
	picked->count = 0;
	page_map_lock(pager->map, first);
	for (size_t page = first; page < end; page++) {
		struct page_entry entry = page_map_get(pager->map, page);

		if (entry.state != PAGE_STAGED)
			continue;
		picked->pages[picked->count].page = page;
		picked->pages[picked->count].has_copy = entry.has_copy;
		if (entry.has_copy)
			picked->pages[picked->count].hash = page_map_hash(pager->map, page);
		picked->count++;
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

	/* The first word decides for most; comparing the page with itself shifted does the rest. */
	return words[0] == 0 &&
	       !memcmp(page, page + sizeof(uint64_t), GUEST_PAGE_SIZE - sizeof(uint64_t));
}

/*
 * What is to become of page @i, without the store. Reads it through the pager view without the lock: if
 * the guest touches it meanwhile, it is no longer STAGED or WRITING when the verdict is carried out.
 */
static enum verdict judge(struct pager *pager, const struct picked *picked, size_t i)
{
	const uint8_t *data = pager_alias(pager, picked->pages[i].page);

	if (is_zero_page(data))
		return LEAVE_ZERO;
	if (picked->pages[i].has_copy && pager_hash(pager, data) == picked->pages[i].hash)
		return LEAVE_CLEAN;
	return KEEP;
}

/* Changes page @i of @parcel, which has left the memfd. */
static void take_out(struct pager *pager, const struct parcel *parcel, size_t i)
{
	struct page_entry entry = page_map_get(pager->map, parcel->pages[i]);

	if (parcel->verdicts[i] != LEAVE_CLEAN && entry.has_copy)
		store_drop(pager->store, entry.location);
	if (parcel->verdicts[i] == LEAVE_ZERO) {
		entry = (struct page_entry){.state = PAGE_EMPTY};
		pager_count(pager, COUNT_TRIMMED_ZERO, 1);
	} else if (parcel->verdicts[i] == LEAVE_CLEAN) {
		entry.state = PAGE_SWAPPED;
		pager_count(pager, COUNT_TRIMMED_CLEAN, 1);
	} else {
		entry = (struct page_entry){PAGE_SWAPPED, true, parcel->stored[i]};
		pager_count(pager, COUNT_STORED, 1);
	}
	page_map_set(pager->map, parcel->pages[i], entry);
}

/* Page @i stays: what was stored of it, if anything, is dropped, and a copy that it differs from. */
static void keep(struct pager *pager, const struct parcel *parcel, size_t i)
{
	struct page_entry entry = page_map_get(pager->map, parcel->pages[i]);

	if (parcel->verdicts[i] == LEAVE_STORED)
		store_drop(pager->store, parcel->stored[i]);
	if (entry.state == PAGE_WRITING)
		entry.state = PAGE_STAGED;
	else if (entry.state != PAGE_STAGED)
		return;
	if ((parcel->verdicts[i] == KEEP || parcel->verdicts[i] == LEAVE_STORED) &&
	    entry.has_copy) {
		store_drop(pager->store, entry.location);
		entry.has_copy = false;
	}
	page_map_set(pager->map, parcel->pages[i], entry);
}

/*
 * Carries out the verdicts on pages [first, end) of the parcel, which lie in one chunk, with one punch
 * for each run that leaves the memfd. A page that is no longer in state @expected was touched or
 * discarded: it is left alone.
 */
static int settle_batch(struct pager *pager, const struct parcel *parcel, size_t first, size_t end,
			enum page_state expected, uint64_t *moved)
{
	size_t i = first;
	int result = 0;

	page_map_lock(pager->map, parcel->pages[first]);
	while (i < end) {
		size_t run = i;

		while (run < end && parcel->verdicts[run] != KEEP &&
		       parcel->pages[run] == parcel->pages[i] + (run - i) &&
		       page_map_get(pager->map, parcel->pages[run]).state == expected)
			run++;
		if (run > i && !result)
			result = guest_memory_punch(pager->memory,
						    parcel->pages[i] * GUEST_PAGE_SIZE,
						    (run - i) * GUEST_PAGE_SIZE);
		if (run == i || result) {
			keep(pager, parcel, i++);
			continue;
		}
		*moved += run - i;
		for (; i < run; i++)
			take_out(pager, parcel, i);
	}
	page_map_unlock(pager->map, parcel->pages[first]);
	return result;
}

/*
 * What was read is mapped in the pager view. Unmapped by one call for a whole chunk, it costs one
 * inter-processor interrupt instead of one for each punch.
 */
static void unmap_read_pages(struct pager *pager, const struct parcel *parcel, size_t first,
			     size_t end)
{
	guest_memory_forget(pager->memory, parcel->pages[first] * GUEST_PAGE_SIZE,
			    (parcel->pages[end - 1] - parcel->pages[first] + 1) * GUEST_PAGE_SIZE);
}

static int settle(struct pager *pager, struct parcel *parcel, enum page_state expected,
		  struct pager_job *job)
{
	uint64_t moved = 0;
	size_t first = 0, chunk_end = 0, end;
	int result = 0;

	for (; first < parcel->count; first = end) {
		int one;

		if (first == chunk_end) {
			size_t chunk = parcel->pages[first] / PAGE_MAP_CHUNK;

			while (chunk_end < parcel->count &&
			       parcel->pages[chunk_end] / PAGE_MAP_CHUNK == chunk)
				chunk_end++;
			unmap_read_pages(pager, parcel, first, chunk_end);
		}
		end = min_size(first + BATCH, chunk_end);
		one = settle_batch(pager, parcel, first, end, expected, &moved);
		if (!result)
			result = one;
	}
	parcel->count = 0;
	job->moved += moved;
	return result;
}

static void add_page(struct parcel *parcel, size_t page, enum verdict verdict)
{
	assert(parcel->count < PARCEL_PAGES);
	parcel->pages[parcel->count] = page;
	parcel->verdicts[parcel->count++] = verdict;
}

int pager_trim(struct pager_context *context, struct pager_job *job)
{
	struct pager *pager = context->pager;
	size_t total = page_map_pages(pager->map), page, behind, first, end;
	int result = parcels_create(context);

	while (!result && pager_take(job, total, STRETCH, &page, &behind)) {
		struct parcel *parcel = &context->parcels[0];
		struct picked picked;

		job->done += behind - page;
		while (!result &&
		       pager_next_stretch(pager, page, min_size(BATCH, behind - page), &first,
					  &end) &&
		       first < behind) {
			page = min_size(end, behind);
			pick(pager, first, page, false, &picked);
			for (size_t i = 0; i < picked.count; i++)
				add_page(parcel, picked.pages[i].page, judge(pager, &picked, i));
			result = settle(pager, parcel, PAGE_STAGED, job);
			if (page == behind)
				break;
		}
	}
	return pager_end_job(job, result);
}

/* ---- writing out ---- */

/* Waits until the store has a sealed parcel safe, and lets its pages go. */
static int finish_parcel(struct pager_context *context, struct parcel *parcel,
			 struct pager_job *job)
{
	int stored = store_wait(context->writer, parcel->number);
	int settled;

	parcel->sealed = false;
	for (size_t i = 0; stored && i < parcel->count; i++) {
		if (parcel->verdicts[i] == LEAVE_STORED) {
			store_drop(context->pager->store, parcel->stored[i]);
			parcel->verdicts[i] = KEEP;
		}
	}
	settled = settle(context->pager, parcel, PAGE_WRITING, job);
	return stored ? stored : settled;
}

/*
 * Seals the open parcel and opens the next. The store takes STORE_PARCELS_MAX at once: the one that
 * was there before, the oldest, is finished first.
 */
static int turn_over(struct pager_context *context, struct pager_job *job)
{
	struct parcel *parcel = parcels_open(context);
	size_t next = (context->parcels->open + 1) % PARCELS;
	int result = 0, settled;

	if (context->parcels[next].sealed)
		result = finish_parcel(context, &context->parcels[next], job);
	pager_give_way(context->pager);
	parcel->sealed = store_seal(context->writer, &parcel->number);
	if (parcel->sealed) {
		context->parcels->open = next;
		return result;
	}
	/* Nothing of it went to the store. */
	settled = settle(context->pager, parcel, PAGE_WRITING, job);
	return result ? result : settled;
}

/* Whatever happened before: no page is left WRITING. The oldest parcel first. */
static int finish_all(struct pager_context *context, struct pager_job *job)
{
	int result = turn_over(context, job);

	for (size_t i = 0; i < PARCELS; i++) {
		struct parcel *parcel = &context->parcels[(context->parcels->open + i) % PARCELS];
		int one = parcel->sealed ? finish_parcel(context, parcel, job) : 0;

		if (!result)
			result = one;
	}
	return result;
}

static int write_page(struct pager_context *context, const struct picked *picked, size_t i,
		      struct pager_job *job)
{
	struct parcel *parcel = parcels_open(context);
	enum verdict verdict;
	store_location location = 0;
	int result = 0;

	if (parcel->count == PARCEL_PAGES) {
		result = turn_over(context, job);
		parcel = parcels_open(context);
	}
	verdict = judge(context->pager, picked, i);
	if (verdict == KEEP && !result) {
		const uint8_t *data = pager_alias(context->pager, picked->pages[i].page);

		if (!store_takes_changing_pages(context->pager->store))
			data = memcpy(parcel->page, data, GUEST_PAGE_SIZE);

		result = store_append(context->writer, data, &location);
		if (result == -ENOBUFS) {
			result = turn_over(context, job);
			parcel = parcels_open(context);
			if (!result)
				result = store_append(context->writer, data, &location);
		}
		verdict = result ? KEEP : LEAVE_STORED;
	}
	parcel->stored[parcel->count] = location;
	add_page(parcel, picked->pages[i].page, verdict);
	return result;
}

/* Writes the STAGED pages of [page, behind). */
static int write_stretch(struct pager_context *context, size_t page, size_t behind,
			 struct pager_job *job)
{
	struct pager *pager = context->pager;
	size_t first, end;
	int result = 0;

	while (!result && page < behind &&
	       pager_next_stretch(pager, page, min_size(BATCH, behind - page), &first, &end) &&
	       first < behind) {
		struct picked picked;

		page = min_size(end, behind);
		pick(pager, first, page, true, &picked);
		for (size_t i = 0; i < picked.count; i++) {
			/* Those behind a failure are WRITING too: they are settled as they are. */
			if (!result)
				result = write_page(context, &picked, i, job);
			else
				parcels_put_back(context, picked.pages[i].page);
		}
	}
	return result;
}

int pager_write_out(struct pager_context *context, struct pager_job *job)
{
	size_t total = page_map_pages(context->pager->map), first, end;
	int result = parcels_create_with_writer(context);
	int finished;

	if (result)
		return pager_end_job(job, result);
	while (!result && pager_take(job, total, STRETCH, &first, &end)) {
		result = write_stretch(context, first, end, job);
		job->done += end - first;
	}
	finished = finish_all(context, job);
	return pager_end_job(job, result ? result : finished);
}
