/*
 * Pages are given back in a storm while every operation runs, the store is compacted and the pool is
 * emptied into the file: what was given back reads as zeros, the rest is whole, and no entry of the
 * store is forgotten.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/vm.h"
#include "vmm/base/size.h"

enum {
	PAGES = 12288, /* 48 MiB */
	KEPT = 4,      /* every so manieth page is never given back */
	ROUNDS = 2,
	DISCARDS = 100, /* at least so many beside each operation */
};

struct storm {
	struct vm vm;
	atomic_bool stop;
	atomic_ulong discards;
	atomic_ulong torn;        /* pages that had other contents than they must */
	uint32_t contents[PAGES]; /* what each page was filled with; 0: zeros */
	uint32_t random;
};

static uint32_t next_random(struct storm *storm)
{
	storm->random = storm->random * 1664525 + 1013904223;
	return storm->random >> 8;
}

static bool is_right(const struct storm *storm, size_t page)
{
	const uint8_t *data = vm_page(&storm->vm, page);

	if (storm->contents[page])
		return page_holds(data, storm->contents[page]);
	return data[0] == 0 && !memcmp(data, data + 1, GUEST_PAGE_SIZE - 1);
}

/* One page or a few that lie between kept ones; now and then one of them is used again. */
static void give_back_some(struct storm *storm)
{
	size_t first = next_random(storm) % (PAGES / KEPT) * KEPT + 1;
	size_t count = 1 + next_random(storm) % (KEPT - 1);
	size_t used = first + next_random(storm) % count;

	guest_memory_discard(storm->vm.memory, first * GUEST_PAGE_SIZE, count * GUEST_PAGE_SIZE);
	for (size_t i = first; i < first + count; i++)
		storm->contents[i] = 0;
	storm->discards++;
	if (!is_right(storm, used))
		storm->torn++;
	if (next_random(storm) % 4)
		return;
	storm->contents[used] = next_random(storm) | 1;
	fill_page(vm_page(&storm->vm, used), storm->contents[used]);
}

static void *give_back(void *arg)
{
	struct storm *storm = arg;

	while (!storm->stop) {
		size_t page;

		for (int i = 0; i < 16; i++)
			give_back_some(storm);
		page = next_random(storm) % PAGES;
		if (!is_right(storm, page))
			storm->torn++;
	}
	return NULL;
}

static void operate(struct storm *storm, enum swap_operation operation)
{
	unsigned long before = storm->discards;

	vm_operate(&storm->vm, operation);
	/* Also between operations, when the store is tidied. */
	await(storm->discards - before >= DISCARDS);
}

static void assert_whole(struct storm *storm)
{
	for (size_t i = 0; i < PAGES; i++)
		if (!is_right(storm, i))
			fail_msg("page %zu has wrong contents", i);
}

static void fill(struct storm *storm)
{
	for (size_t i = 0; i < PAGES; i++) {
		storm->contents[i] = (uint32_t)i + 1;
		fill_page(vm_page(&storm->vm, i), storm->contents[i]);
	}
}

/* Everything is given back: whatever the store still had then would be forgotten. */
static void assert_nothing_leaks(struct storm *storm)
{
	struct swap_status status = vm_status(&storm->vm);

	assert_true(status.store.entries >= status.pages_swapped);
	assert_int_equal(guest_memory_discard_all(storm->vm.memory), 0);
	await(vm_status(&storm->vm).store.entries == 0);
	assert_int_equal(vm_status(&storm->vm).store.live_bytes, 0);
	await(vm_status(&storm->vm).store.file_bytes == 0);
	await(vm_status(&storm->vm).store.pool_bytes == 0);
	memset(storm->contents, 0, sizeof(storm->contents));
}

static void run(const struct store_config *store)
{
	static const enum swap_operation order[] = {
		SWAP_OP_ENABLE, SWAP_OP_TRIM,        SWAP_OP_OUT,    SWAP_OP_CHECKSUM,
		SWAP_OP_ENABLE, SWAP_OP_OUT,         SWAP_OP_IN,     SWAP_OP_ENABLE,
		SWAP_OP_OUT,    SWAP_OP_WORKING_SET, SWAP_OP_ENABLE, SWAP_OP_OUT,
	};
	static struct storm storm;
	struct swap_status status;
	pthread_t thread;

	memset(&storm, 0, sizeof(storm));
	storm.random = 1;
	vm_create(&storm.vm, PAGES, *store);
	for (int round = 0; round < ROUNDS; round++) {
		fill(&storm);
		storm.stop = false;
		assert_int_equal(pthread_create(&thread, NULL, give_back, &storm), 0);
		for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
			operate(&storm, order[i]);
		status = vm_status(&storm.vm);
		print_message(
			"%lu discards; compacted %lu, writes cancelled %lu, evicted %lu MiB\n",
			storm.discards, status.counters.compacted, status.counters.writes_cancelled,
			(unsigned long)(status.store.evicted_bytes >> 20));
		if (round)
			operate(&storm, SWAP_OP_DISABLE);
		storm.stop = true;
		pthread_join(thread, NULL);
		assert_int_equal(storm.torn, 0);
		assert_whole(&storm);
		assert_nothing_leaks(&storm);
		assert_whole(&storm);
	}
	assert_int_equal(storm.vm.fatal, 0);
	assert_int_equal(vm_status(&storm.vm).state, SWAP_DISABLED);
	vm_destroy(&storm.vm);
}

static void nothing_leaks_from_a_file(void **state)
{
	struct store_config store = test_store();
	(void)state;

	run(&store);
}

static void nothing_leaks_from_a_pool_that_is_emptied_into_a_file(void **state)
{
	struct store_config store = test_store();
	(void)state;

	store.pool_bytes = 6 * MIB;
	run(&store);
}

static void nothing_leaks_from_a_pool_alone(void **state)
{
	const struct store_config store = {.pool_bytes = 96 * MIB,
					   .compression = STORE_COMPRESS_ZSTD};
	(void)state;

	run(&store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_leaks_from_a_file),
		cmocka_unit_test(nothing_leaks_from_a_pool_that_is_emptied_into_a_file),
		cmocka_unit_test(nothing_leaks_from_a_pool_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
