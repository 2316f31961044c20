/* The page map: words, locks, counts. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "swap/page_map.h"

#define PAGES 2000u

static int create(void **state)
{
	return page_map_create(PAGES, (struct page_map **)state);
}

static int destroy(void **state)
{
	page_map_destroy(*state);
	return 0;
}

static void set(struct page_map *map, size_t page, struct page_entry entry)
{
	page_map_lock(map, page);
	page_map_set(map, page, entry);
	page_map_unlock(map, page);
}

static void a_new_map_is_empty(void **state)
{
	struct page_map *map = *state;
	uint64_t counts[PAGE_STATES];

	page_map_counts(map, counts);

	assert_int_equal(page_map_pages(map), PAGES);
	assert_int_equal(counts[PAGE_EMPTY], PAGES);
	assert_int_equal(page_map_get(map, PAGES - 1).state, PAGE_EMPTY);
	assert_false(page_map_get(map, PAGES - 1).has_copy);
}

static void an_entry_comes_back_as_it_was_set(void **state)
{
	struct page_map *map = *state;
	const struct page_entry entry = {PAGE_SWAPPED, true, STORE_LOCATION_MAX};

	set(map, 700, entry);

	struct page_entry back = page_map_get(map, 700);
	assert_int_equal(back.state, PAGE_SWAPPED);
	assert_true(back.has_copy);
	assert_int_equal(back.location, STORE_LOCATION_MAX);
	assert_int_equal(page_map_get(map, 699).state, PAGE_EMPTY);
	assert_int_equal(page_map_get(map, 701).state, PAGE_EMPTY);
}

static void location_zero_is_a_location(void **state)
{
	struct page_map *map = *state;

	set(map, 3, (struct page_entry){PAGE_RESIDENT, true, 0});

	assert_true(page_map_get(map, 3).has_copy);
	assert_int_equal(page_map_get(map, 3).location, 0);
}

static void counts_follow_the_states(void **state)
{
	struct page_map *map = *state;
	uint64_t counts[PAGE_STATES];

	for (size_t i = 0; i < 100; i++)
		set(map, i * 7, (struct page_entry){.state = PAGE_RESIDENT});
	for (size_t i = 0; i < 40; i++)
		set(map, i * 7, (struct page_entry){.state = PAGE_STAGED});
	for (size_t i = 0; i < 10; i++)
		set(map, i * 7, (struct page_entry){.state = PAGE_EMPTY});
	page_map_counts(map, counts);

	assert_int_equal(counts[PAGE_RESIDENT], 60);
	assert_int_equal(counts[PAGE_STAGED], 30);
	assert_int_equal(counts[PAGE_EMPTY], PAGES - 90);
}

static void *hammer(void *arg)
{
	struct page_map *map = arg;

	for (size_t round = 0; round < 50; round++)
		for (size_t page = 0; page < PAGES; page++) {
			page_map_lock(map, page);
			struct page_entry entry = page_map_get(map, page);
			entry.has_copy = true;
			entry.location++;
			entry.state = entry.location % 2 ? PAGE_STAGED : PAGE_RESIDENT;
			page_map_set(map, page, entry);
			page_map_unlock(map, page);
		}
	return NULL;
}

static void threads_that_lock_lose_no_update(void **state)
{
	struct page_map *map = *state;
	pthread_t threads[4];
	uint64_t counts[PAGE_STATES];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, hammer, map);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	page_map_counts(map, counts);

	for (size_t page = 0; page < PAGES; page++)
		assert_int_equal(page_map_get(map, page).location, 200);
	assert_int_equal(counts[PAGE_RESIDENT], PAGES);
}

static void a_chunk_is_counted_by_itself(void **state)
{
	struct page_map *map = *state;
	uint64_t counts[PAGE_STATES];

	set(map, PAGE_MAP_CHUNK + 3, (struct page_entry){.state = PAGE_STAGED});
	set(map, PAGES - 1, (struct page_entry){.state = PAGE_RESIDENT});

	page_map_chunk_counts(map, PAGE_MAP_CHUNK, counts);
	assert_int_equal(counts[PAGE_STAGED], 1);
	assert_int_equal(counts[PAGE_EMPTY], PAGE_MAP_CHUNK - 1);
	page_map_chunk_counts(map, PAGES - 1, counts);
	assert_int_equal(counts[PAGE_RESIDENT], 1);
	assert_int_equal(counts[PAGE_EMPTY], PAGES % PAGE_MAP_CHUNK - 1);
}

#define with_map(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_map(a_new_map_is_empty),           with_map(an_entry_comes_back_as_it_was_set),
		with_map(location_zero_is_a_location),  with_map(counts_follow_the_states),
		with_map(a_chunk_is_counted_by_itself), with_map(threads_that_lock_lose_no_update),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
