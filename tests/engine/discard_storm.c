/*
 * Pages are given back in a storm while every operation runs, the store is compacted and the pool is
 * emptied into the file: what was given back reads as zeros, the rest is whole, and no entry of the
 * store is forgotten.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/fixture.h"
#include "vmm/base/size.h"

enum {
	PAGES = 12288, /* 48 MiB */
	KEPT = 4,      /* every so manieth page is never given back */
	ROUNDS = 2,
	DISCARDS = 100, /* at least so many beside each operation */
};

struct vm {
	struct guest_memory *memory;
	struct swap *swap;
	uint8_t *guest;
	atomic_bool stop;
	atomic_int fatal;
	atomic_ulong discards;
	atomic_ulong torn;        /* pages that had other contents than they must */
	uint32_t contents[PAGES]; /* what each page was filled with; 0: zeros */
	uint32_t random;
};

static void note_fatal(void *opaque, const char *reason)
{
	print_message("fatal: %s\n", reason);
	((struct vm *)opaque)->fatal++;
}

static uint32_t next_random(struct vm *vm)
{
	vm->random = vm->random * 1664525 + 1013904223;
	return vm->random >> 8;
}

static uint8_t *vm_page(const struct vm *vm, size_t page)
{
	return vm->guest + page * GUEST_PAGE_SIZE;
}

static bool is_right(const struct vm *vm, size_t page)
{
	const uint8_t *data = vm_page(vm, page);

	if (vm->contents[page])
		return page_holds(data, vm->contents[page]);
	return data[0] == 0 && !memcmp(data, data + 1, GUEST_PAGE_SIZE - 1);
}

/* One page or a few that lie between kept ones; now and then one of them is used again. */
static void give_back_some(struct vm *vm)
{
	size_t first = next_random(vm) % (PAGES / KEPT) * KEPT + 1;
	size_t count = 1 + next_random(vm) % (KEPT - 1);
	size_t used = first + next_random(vm) % count;

	guest_memory_discard(vm->memory, first * GUEST_PAGE_SIZE, count * GUEST_PAGE_SIZE);
	for (size_t i = first; i < first + count; i++)
		vm->contents[i] = 0;
	vm->discards++;
	if (!is_right(vm, used))
		vm->torn++;
	if (next_random(vm) % 4)
		return;
	vm->contents[used] = next_random(vm) | 1;
	fill_page(vm_page(vm, used), vm->contents[used]);
}

static void *storm(void *arg)
{
	struct vm *vm = arg;

	while (!vm->stop) {
		size_t page;

		for (int i = 0; i < 16; i++)
			give_back_some(vm);
		page = next_random(vm) % PAGES;
		if (!is_right(vm, page))
			vm->torn++;
	}
	return NULL;
}

static struct swap_status status_of(struct vm *vm)
{
	struct swap_status status;

	swap_get_status(vm->swap, &status);
	return status;
}

static void operate(struct vm *vm, enum swap_operation operation)
{
	unsigned long before = vm->discards;
	struct error err;

	if (swap_start(vm->swap, operation, &err) || swap_wait(vm->swap, &err))
		fail_msg("%s", err.text);
	/* Also between operations, when the store is tidied. */
	await(vm->discards - before >= DISCARDS);
}

static void assert_whole(struct vm *vm)
{
	for (size_t i = 0; i < PAGES; i++)
		if (!is_right(vm, i))
			fail_msg("page %zu has wrong contents", i);
}

static void fill(struct vm *vm)
{
	for (size_t i = 0; i < PAGES; i++) {
		vm->contents[i] = (uint32_t)i + 1;
		fill_page(vm_page(vm, i), vm->contents[i]);
	}
}

/* Everything is given back: whatever the store still had then would be forgotten. */
static void assert_nothing_leaks(struct vm *vm)
{
	struct swap_status status = status_of(vm);

	assert_true(status.store.entries >= status.pages_swapped);
	assert_int_equal(guest_memory_discard_all(vm->memory), 0);
	await(status_of(vm).store.entries == 0);
	assert_int_equal(status_of(vm).store.live_bytes, 0);
	await(status_of(vm).store.file_bytes == 0);
	await(status_of(vm).store.pool_bytes == 0);
	memset(vm->contents, 0, sizeof(vm->contents));
}

static void run(const struct store_config *store)
{
	static const enum swap_operation order[] = {
		SWAP_OP_ENABLE, SWAP_OP_TRIM,        SWAP_OP_OUT,    SWAP_OP_CHECKSUM,
		SWAP_OP_ENABLE, SWAP_OP_OUT,         SWAP_OP_IN,     SWAP_OP_ENABLE,
		SWAP_OP_OUT,    SWAP_OP_WORKING_SET, SWAP_OP_ENABLE, SWAP_OP_OUT,
	};
	static struct vm vm;
	const struct swap_config config = {.store = *store};
	const struct swap_callbacks callbacks = {.opaque = &vm, .fatal = note_fatal};
	struct swap_status status;
	pthread_t thread;

	memset(&vm, 0, sizeof(vm));
	vm.random = 1;
	vm.memory = create_memory(PAGES);
	vm.guest = guest_memory_guest_view(vm.memory);
	assert_int_equal(swap_create(vm.memory, &config, &callbacks, &vm.swap, NULL), 0);
	for (int round = 0; round < ROUNDS; round++) {
		fill(&vm);
		vm.stop = false;
		assert_int_equal(pthread_create(&thread, NULL, storm, &vm), 0);
		for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
			operate(&vm, order[i]);
		status = status_of(&vm);
		print_message(
			"%lu discards; compacted %lu, writes cancelled %lu, evicted %lu MiB\n",
			vm.discards, status.counters.compacted, status.counters.writes_cancelled,
			(unsigned long)(status.store.evicted_bytes >> 20));
		if (round)
			operate(&vm, SWAP_OP_DISABLE);
		vm.stop = true;
		pthread_join(thread, NULL);
		assert_int_equal(vm.torn, 0);
		assert_whole(&vm);
		assert_nothing_leaks(&vm);
		assert_whole(&vm);
	}
	assert_int_equal(vm.fatal, 0);
	assert_int_equal(status_of(&vm).state, SWAP_DISABLED);
	swap_destroy(vm.swap);
	guest_memory_destroy(vm.memory);
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
