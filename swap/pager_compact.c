/*
 * Moving stored copies out of sparse segments, so that the store can free them.
 *
 * Nobody but a job gives a page a new stored copy, and there is one job at a time: a page whose copy
 * still lies in a victim segment when it has been written anew has the copy that was read.
 */
#include <errno.h>

#include "swap/pager_parcel.h"

/* Pages that a thread looks at, at once; the most of which are read together. */
#define STRETCH PAGE_MAP_CHUNK

struct moving {
	size_t count;
	size_t pages[READ_AHEAD_MAX];
	store_location locations[READ_AHEAD_MAX];
};

static void settle(struct pager *pager, struct parcel *parcel, bool stored, struct pager_job *job)
{
	uint64_t moved = 0;

	for (size_t i = 0; i < parcel->count; i++) {
		size_t page = parcel->pages[i];
		struct page_entry entry;
		store_location unused = parcel->stored[i];

		page_map_lock(pager->map, page);
		entry = page_map_get(pager->map, page);
		if (stored && entry.has_copy && store_is_victim(pager->store, entry.location)) {
			unused = entry.location;
			entry.location = parcel->stored[i];
			page_map_set(pager->map, page, entry);
			moved++;
		}
		page_map_unlock(pager->map, page);
		store_drop(pager->store, unused);
	}
	parcel->count = 0;
	pager_count(pager, COUNT_COMPACTED, moved);
	job->moved += moved;
}

/* One parcel at a time: this is not in a hurry. */
static int finish_parcel(struct pager_context *context, struct pager_job *job)
{
	struct parcel *parcel = &context->parcels[0];
	unsigned number;
	int result = 0;

	if (store_seal(context->writer, &number))
		result = store_wait(context->writer, number);
	settle(context->pager, parcel, !result, job);
	return result;
}

/* Reads the copies and appends them anew. A copy that cannot be read stays where it is. */
static int move(struct pager_context *context, const struct moving *moving, struct pager_job *job)
{
	struct parcel *parcel = &context->parcels[0];
	uint8_t *data = context->fetch.data;
	void *targets[READ_AHEAD_MAX];
	int result;

	for (size_t i = 0; i < moving->count; i++)
		targets[i] = data + i * GUEST_PAGE_SIZE;
	if (moving->count == 0 ||
	    store_read(context->reader, moving->locations, moving->count, targets))
		return 0;
	for (size_t i = 0; i < moving->count; i++) {
		store_location location;

		result = parcel->count == PARCEL_PAGES
				 ? -ENOBUFS
				 : store_append(context->writer, targets[i], &location);
		if (result == -ENOBUFS) {
			result = finish_parcel(context, job);
			if (!result)
				result = store_append(context->writer, targets[i], &location);
		}
		if (result)
			return result;
		parcel->stored[parcel->count] = location;
		parcel->pages[parcel->count++] = moving->pages[i];
	}
	return 0;
}

/* Moves what lies in victims of [first, end), part of one chunk. */
static int move_stretch(struct pager_context *context, size_t first, size_t end,
			struct pager_job *job)
{
	struct pager *pager = context->pager;
	size_t page = first;
	int result = 0;

	while (page < end && !result) {
		struct moving moving = {.count = 0};

		page_map_lock(pager->map, first);
		for (; page < end && moving.count < READ_AHEAD_MAX; page++) {
			struct page_entry entry = page_map_get(pager->map, page);

			if (!entry.has_copy || !store_is_victim(pager->store, entry.location))
				continue;
			moving.pages[moving.count] = page;
			moving.locations[moving.count++] = entry.location;
		}
		page_map_unlock(pager->map, first);
		result = move(context, &moving, job);
	}
	return result;
}

int pager_compact(struct pager_context *context, struct pager_job *job)
{
	size_t total = page_map_pages(context->pager->map), first, end;
	int result = parcels_create_with_writer(context);
	int finished;

	if (result)
		return pager_end_job(job, result);
	store_writer_use_reserve(context->writer);
	while (!result && pager_take(job, total, STRETCH, &first, &end)) {
		result = move_stretch(context, first, end, job);
		job->done += end - first;
	}
	finished = finish_parcel(context, job);
	return pager_end_job(job, result ? result : finished);
}
