#include "swap/working_set.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* An entry: the page, and in how many cycles no fault asked for it. */
#define AGE_SHIFT 28
#define PAGE_MASK ((1u << AGE_SHIFT) - 1)

struct working_set {
	size_t pages;
	size_t cap;
	atomic_size_t noted_count; /* may pass the cap */
	_Atomic uint32_t *noted;
	atomic_size_t count;
	uint32_t *remembered;
};

int working_set_create(size_t pages, struct working_set **out)
{
	struct working_set *set = calloc(1, sizeof(*set));

	if (!set)
		return -ENOMEM;
	set->pages = pages;
	set->cap = pages / 16 + 1;
	/* calloc of this size is a mapping: what is not used costs nothing. */
	set->noted = calloc(set->cap, sizeof(*set->noted));
	set->remembered = calloc(set->cap, sizeof(*set->remembered));
	if (!set->noted || !set->remembered) {
		working_set_destroy(set);
		return -ENOMEM;
	}
	*out = set;
	return 0;
}

void working_set_destroy(struct working_set *set)
{
	if (!set)
		return;
	free((void *)set->noted);
	free(set->remembered);
	free(set);
}

void working_set_note(struct working_set *set, size_t page)
{
	size_t index;

	if (page > PAGE_MASK)
		return;
	if (atomic_load_explicit(&set->noted_count, memory_order_relaxed) >= set->cap)
		return;
	index = atomic_fetch_add(&set->noted_count, 1);
	if (index < set->cap)
		atomic_store_explicit(&set->noted[index], (uint32_t)page, memory_order_relaxed);
}

static bool mark(uint64_t *seen, size_t page)
{
	uint64_t bit = 1ull << (page % 64);
	bool first = !(seen[page / 64] & bit);

	seen[page / 64] |= bit;
	return first;
}

void working_set_learn(struct working_set *set)
{
	size_t noted = atomic_load(&set->noted_count), used = 0;
	uint32_t *merged = malloc(set->cap * sizeof(*merged));
	uint64_t *seen = calloc(set->pages / 64 + 1, sizeof(*seen));

	if (noted == 0 || !merged || !seen)
		goto free_buffers;
	if (noted > set->cap)
		noted = set->cap;
	for (size_t i = 0; i < noted; i++) {
		uint32_t page = atomic_load_explicit(&set->noted[i], memory_order_relaxed);

		if (mark(seen, page))
			merged[used++] = page;
	}
	for (size_t i = 0; i < set->count && used < set->cap; i++) {
		uint32_t page = set->remembered[i] & PAGE_MASK;
		uint32_t age = (set->remembered[i] >> AGE_SHIFT) + 1;

		if (age < WORKING_SET_CYCLES && mark(seen, page))
			merged[used++] = page | age << AGE_SHIFT;
	}
	memcpy(set->remembered, merged, used * sizeof(*merged));
	atomic_store(&set->count, used);
	atomic_store(&set->noted_count, 0);
free_buffers:
	free(seen);
	free(merged);
}

size_t working_set_count(const struct working_set *set)
{
	return atomic_load(&set->count);
}

size_t working_set_page(const struct working_set *set, size_t index)
{
	return set->remembered[index] & PAGE_MASK;
}

uint64_t working_set_ram_bytes(const struct working_set *set)
{
	size_t noted = atomic_load(&set->noted_count);

	return ((noted < set->cap ? noted : set->cap) + set->count) * sizeof(uint32_t);
}
