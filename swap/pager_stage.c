/* Staging without a copy: the marks, and the zap. */
#include <errno.h>

#include "swap/pager_internal.h"

/* Pages zapped by one madvise() (32 MiB). */
#define ZAP_PIECE 8192u

/* Marks what is in the memfd of [first, end), part of one chunk. Returns how many pages that were. */
static uint64_t stage_stretch(struct pager *pager, size_t first, size_t end)
{
	uint64_t staged = 0;

	page_map_lock(pager->map, first);
	for (size_t page = first; page < end; page++) {
		struct page_entry entry = page_map_get(pager->map, page);

		/* EMPTY and yet there: populated before the pager existed. */
		if (entry.state != PAGE_EMPTY && entry.state != PAGE_RESIDENT)
			continue;
		entry.state = PAGE_STAGED;
		page_map_set(pager->map, page, entry);
		staged++;
	}
	page_map_unlock(pager->map, first);
	return staged;
}

int pager_stage(struct pager *pager, struct pager_job *job)
{
	uint64_t data_start = 0, data_end = 0, staged;
	size_t page = 0, first, end;

	while (!atomic_load(&job->stop) &&
	       pager_next_stretch(pager, page, PAGE_MAP_CHUNK, &first, &end)) {
		uint64_t offset = first * GUEST_PAGE_SIZE;

		if (offset >= data_end) {
			int result = guest_memory_next_data(pager->memory, offset, &data_start,
							    &data_end);

			if (result == -ENXIO)
				break;
			if (result)
				return pager_end_job(job, result);
		}
		if (offset < data_start) {
			page = data_start / GUEST_PAGE_SIZE;
			continue;
		}
		end = min_size(end, data_end / GUEST_PAGE_SIZE);
		staged = stage_stretch(pager, first, end);
		pager_count(pager, COUNT_STAGED, staged);
		job->moved += staged;
		job->done = page = end;
	}
	return pager_end_job(job, 0);
}

/* Announces a zap, does it, and waits until its event is applied. */
static int zap_announced(struct pager *pager, size_t first, size_t end)
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
		pthread_mutex_lock(&pager->event_lock);
		pthread_mutex_lock(&pager->zap_lock);
		pager->zap_start = pager->zap_end = 0;
		pthread_mutex_unlock(&pager->zap_lock);
		pthread_mutex_unlock(&pager->event_lock);
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

/* A discard of the very same range that is not applied yet could be taken for the zap. */
static int zap_piece(struct pager *pager, size_t first, size_t end)
{
	int result;

	guest_memory_fill_begin(pager->memory);
	pager_pass_events(pager);
	result = zap_announced(pager, first, end);
	guest_memory_fill_end(pager->memory);
	return result;
}

int pager_zap(struct pager *pager, struct pager_job *job)
{
	size_t page = 0, first, end;

	/* Not to be stopped: what is marked must be zapped before anything else. */
	while (pager_next_in_region(pager, page, &first, &end)) {
		int result;

		end = min_size(end, first + ZAP_PIECE);
		result = zap_piece(pager, first, end);
		if (result)
			return pager_end_job(job, result);
		job->moved += end - first;
		job->done = page = end;
	}
	return 0;
}
