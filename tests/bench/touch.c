#include "tests/bench/touch.h"

#include <stdlib.h>
#include <time.h>

#include "memory/guest_memory.h"
#include "tests/bench/contents_kinds.h"
#include "vmm/base/clock.h"

#define BUSY_PAGES 64u

static void shuffle_pages(uint32_t *page, size_t count, uint64_t seed)
{
	struct random random = {seed};

	for (size_t i = count; i > 1; i--) {
		size_t other = random_next(&random) % i;
		uint32_t kept = page[i - 1];

		page[i - 1] = page[other];
		page[other] = kept;
	}
}

void touch_list_create(struct touch_list *list, uint64_t first, uint64_t end, size_t limit,
		       bool shuffle, const struct contents *contents)
{
	list->count = 0;
	list->page = malloc((end - first + 1) * sizeof(*list->page));
	if (!list->page)
		die("no memory for a list of pages");
	for (uint64_t page = first; page < end; page++)
		if (!contents || !contents_is_zero(contents, page))
			list->page[list->count++] = (uint32_t)page;
	if (shuffle)
		shuffle_pages(list->page, list->count, limit);
	if (list->count > limit)
		list->count = limit;
}

void touch_list_destroy(struct touch_list *list)
{
	free(list->page);
	list->page = NULL;
}

void touch_all(const uint8_t *base, const struct touch_list *list, unsigned pause_us,
	       const atomic_bool *stop, struct samples *samples)
{
	const struct timespec pause = {.tv_nsec = (long)(pause_us * NS_PER_US)};

	for (size_t i = 0; i < list->count; i++) {
		const volatile uint8_t *byte = base + list->page[i] * GUEST_PAGE_SIZE;
		uint64_t start;

		if (stop && atomic_load_explicit(stop, memory_order_relaxed))
			return;
		if (pause_us)
			nanosleep(&pause, NULL);
		start = clock_monotonic_ns();
		(void)*byte;
		samples_add(samples, clock_monotonic_ns() - start);
	}
}

static void *run_toucher(void *arg)
{
	struct toucher *toucher = arg;

	touch_all(toucher->base, &toucher->list, toucher->pause_us, &toucher->stop,
		  &toucher->samples);
	return NULL;
}

void toucher_start(struct toucher *toucher)
{
	samples_create(&toucher->samples, toucher->list.count);
	toucher->stop = false;
	if (pthread_create(&toucher->thread, NULL, run_toucher, toucher))
		die("cannot start a thread");
}

void toucher_stop(struct toucher *toucher)
{
	toucher->stop = true;
	pthread_join(toucher->thread, NULL);
	touch_list_destroy(&toucher->list);
}

static void *run_busy(void *arg)
{
	struct busy_toucher *toucher = arg;
	uint64_t before = clock_monotonic_ns(), now, distance = toucher->pages / BUSY_PAGES;

	for (uint64_t i = 0; !atomic_load_explicit(&toucher->stop, memory_order_relaxed); i++) {
		volatile uint64_t *word =
			(volatile uint64_t *)(toucher->base +
					      i % BUSY_PAGES * distance * GUEST_PAGE_SIZE);

		*word = *word;
		now = clock_monotonic_ns();
		if (now - before > toucher->longest_ns)
			toucher->longest_ns = now - before;
		before = now;
	}
	return NULL;
}

void busy_toucher_start(struct busy_toucher *toucher, uint8_t *base, uint64_t pages)
{
	toucher->base = base;
	toucher->pages = pages;
	toucher->stop = false;
	toucher->longest_ns = 0;
	if (pthread_create(&toucher->thread, NULL, run_busy, toucher))
		die("cannot start a thread");
}

uint64_t busy_toucher_longest(struct busy_toucher *toucher)
{
	return atomic_exchange(&toucher->longest_ns, 0);
}

void busy_toucher_stop(struct busy_toucher *toucher)
{
	toucher->stop = true;
	pthread_join(toucher->thread, NULL);
}
