/* The store's compaction: it is said when it pays, and what is picked is what it pays for. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "swap/store_file.h"
#include "tests/unit/store_fixture.h"

/* 80 MiB of pages. */
#define MANY 20000u

static store_location locations[MANY], moved[MANY];

/* Moves every victim to new segments, as the store's user does. */
static size_t compact(struct store *store, uint32_t seed)
{
	size_t count = 0;

	for (uint32_t i = 0; i < MANY; i++) {
		store_location before = locations[i];

		if (before == STORE_LOCATION_MAX || !store_is_victim(store, before))
			continue;
		moved[count++] = before;
		store_expect(store, before, PAGE_RANDOM, seed + i);
		locations[i] = STORE_LOCATION_MAX;
	}
	/* What it is does not matter here: it is live and of the same size. */
	if (count > 0) {
		static store_location fresh[MANY];

		store_put(store, PAGE_RANDOM, 0, count, fresh);
		store_drop_all(store, moved, count);
	}
	return count;
}

static void a_full_store_is_not_sparse(void **state)
{
	struct store *store = *state;

	assert_false(store_is_sparse(store));
	store_put(store, PAGE_RANDOM, 0, MANY, locations);

	assert_false(store_is_sparse(store));
	assert_int_equal(store_pick_victims(store), 0);
	for (uint32_t i = 0; i < MANY; i++)
		assert_false(store_is_victim(store, locations[i]));
}

static void half_dead_segments_are_compacted_away(void **state)
{
	struct store *store = *state;
	uint64_t before;
	size_t victims, rounds = 0;
	store_put(store, PAGE_RANDOM, 0, MANY, locations);
	for (uint32_t i = 0; i < MANY; i++) {
		if (i % 4 == 0)
			continue;
		store_drop(store, locations[i]);
		locations[i] = STORE_LOCATION_MAX;
	}
	before = store_usage(store).file_bytes;

	assert_true(store_is_sparse(store));
	while (store_is_sparse(store) && rounds++ < 10) {
		victims = store_pick_victims(store);
		assert_true(victims > 0);
		assert_true(compact(store, 0) > 0);
		store_reclaim_all(store);
	}

	assert_false(store_is_sparse(store));
	assert_int_equal(store_usage(store).entries, MANY / 4);
	assert_true(store_usage(store).file_bytes < before * 2 / 5);
}

static void the_sparsest_are_picked_first(void **state)
{
	struct store *store = *state;
	size_t sparse = 0, full = 0;
	store_put(store, PAGE_RANDOM, 0, MANY, locations);
	/* The first half nearly empty, the other with a few gaps. */
	for (uint32_t i = 0; i < MANY; i++) {
		if (i < MANY / 2 ? i % 16 == 0 : i % 16 != 0)
			continue;
		store_drop(store, locations[i]);
		locations[i] = STORE_LOCATION_MAX;
	}

	assert_true(store_pick_victims(store) > 0);

	for (uint32_t i = 0; i < MANY; i++) {
		if (locations[i] == STORE_LOCATION_MAX || !store_is_victim(store, locations[i]))
			continue;
		if (i < MANY / 2 - 300)
			sparse++;
		else if (i > MANY / 2 + 300)
			full++;
	}
	assert_true(sparse > MANY / 2 / 16 * 9 / 10);
	assert_int_equal(full, 0);
}

static void a_new_pick_releases_those_that_are_none_any_more(void **state)
{
	struct store *store = *state;
	store_location again;
	store_put(store, PAGE_RANDOM, 0, MANY, locations);
	for (uint32_t i = 0; i < MANY; i++)
		if (i % 8)
			store_drop(store, locations[i]);
	assert_true(store_pick_victims(store) > 0);

	for (uint32_t i = 0; i < MANY; i += 8)
		store_drop(store, locations[i]);
	again = store_put_one(store, PAGE_RANDOM, 1);
	assert_false(store_is_victim(store, again));
	store_put(store, PAGE_RANDOM, 0, 1000, moved);

	assert_int_equal(store_pick_victims(store), 0);
	assert_false(store_is_victim(store, moved[0]));
}

static void many_tiny_segments_are_merged(void **state)
{
	struct store *store = *state;
	for (uint32_t i = 0; i < 1100; i++)
		locations[i] = store_put_one(store, PAGE_TEXT, i);

	assert_true(store_is_sparse(store));
	assert_true(store_pick_victims(store) >= 1000);
	store_put(store, PAGE_TEXT, 0, 1100, moved);
	store_drop_all(store, locations, 1100);
	store_reclaim_all(store);

	assert_false(store_is_sparse(store));
	assert_true(store_usage(store).file_bytes < 4 * SEGMENT);
}

static void a_sparse_pool_is_compacted_when_it_is_nearly_full(void **state)
{
	struct store_config config = store_test_config();
	struct store *store;
	(void)state;
	config.pool_bytes = 16 * SEGMENT;
	store = store_make(&config);
	store_put(store, PAGE_RANDOM, 0, 3600, locations);
	for (uint32_t i = 3600; i < MANY; i++)
		locations[i] = STORE_LOCATION_MAX;
	assert_false(store_is_sparse(store));
	for (uint32_t i = 0; i < 3600; i++) {
		if (i % 2) {
			store_drop(store, locations[i]);
			locations[i] = STORE_LOCATION_MAX;
		}
	}

	assert_true(store_is_sparse(store));
	assert_true(store_pick_victims(store) > 0);
	assert_true(compact(store, 0) > 0);

	assert_false(store_is_sparse(store));
	assert_int_equal(store_usage(store).entries, 1800);
	assert_true(store_usage(store).pool_bytes < 11 * SEGMENT);
	store_destroy(store);
}

/* ---- two that want the same space ---- */

int __real_store_file_punch(const struct store_file *file, uint64_t offset, uint64_t length);
int __wrap_store_file_punch(const struct store_file *file, uint64_t offset, uint64_t length);

static void (*_Atomic during_punch)(void);

int __wrap_store_file_punch(const struct store_file *file, uint64_t offset, uint64_t length)
{
	void (*function)(void) = atomic_exchange(&during_punch, NULL);

	if (function)
		function();
	return __real_store_file_punch(file, offset, length);
}

static struct store *shared;
static pthread_t second;
static _Atomic int second_result;

static void *put_one(void *unused)
{
	store_location location;

	second_result = store_try_put(shared, PAGE_RANDOM, 1, 1, &location);
	return unused;
}

static void start_second(void)
{
	pthread_create(&second, NULL, put_one, NULL);
	/* Without waiting for what is being given back, it would have failed by then. */
	usleep(100000);
}

static void space_that_another_thread_gives_back_is_waited_for(void **state)
{
	struct store_config config = store_test_config();
	(void)state;
	config.limit_bytes = 4 * SEGMENT;
	shared = store_make(&config);
	assert_true(store_try_put(shared, PAGE_RANDOM, 0, 2000, locations) != 0);
	store_drop_all(shared, locations, 2000);
	second_result = -1;
	during_punch = start_second;

	store_put_one(shared, PAGE_RANDOM, 2);

	pthread_join(second, NULL);
	assert_int_equal(second_result, 0);
	store_destroy(shared);
}

#define with_store(test) cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_store(a_full_store_is_not_sparse),
		with_store(half_dead_segments_are_compacted_away),
		with_store(the_sparsest_are_picked_first),
		with_store(a_new_pick_releases_those_that_are_none_any_more),
		with_store(many_tiny_segments_are_merged),
		cmocka_unit_test(a_sparse_pool_is_compacted_when_it_is_nearly_full),
		cmocka_unit_test(space_that_another_thread_gives_back_is_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
