/* The store's pool: what is kept in memory, what is evicted from it, and what a full one says. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/unit/store_fixture.h"

static struct store *make_with_pool(uint64_t pool_bytes)
{
	struct store_config config = store_test_config();

	config.pool_bytes = pool_bytes;
	return store_make(&config);
}

static void what_fits_stays_in_the_pool(void **state)
{
	struct store *store = make_with_pool(8 * SEGMENT);
	store_location locations[1000];
	struct store_usage usage;
	(void)state;

	store_put(store, PAGE_RANDOM, 0, 1000, locations);
	usage = store_usage(store);

	assert_int_equal(usage.entries_pool, 1000);
	assert_int_equal(usage.written_bytes, 0);
	assert_int_equal(usage.file_bytes, 0);
	assert_in_range(usage.pool_bytes, 1000 * PAGE, 5 * SEGMENT);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(store_place(store, locations[i]), STORE_PLACE_POOL);
		store_expect(store, locations[i], PAGE_RANDOM, i);
	}
	store_destroy(store);
}

/* Bytes of memory that a core dump would leave out. */
static uint64_t undumped_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	uint64_t size = 0, bytes = 0;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "Size:", 5))
			size = strtoull(line + 5, NULL, 10) * 1024;
		else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " dd"))
			bytes += size;
	}
	fclose(file);
	return bytes;
}

static void the_pool_is_in_no_core_dump(void **state)
{
	struct store *store = make_with_pool(8 * SEGMENT);
	uint64_t before = undumped_bytes();
	store_location locations[1000];
	(void)state;

	store_put(store, PAGE_RANDOM, 0, 1000, locations);

	assert_true(undumped_bytes() >= before + store_usage(store).pool_bytes);
	store_destroy(store);
}

static void the_oldest_are_evicted(void **state)
{
	struct store *store = make_with_pool(4 * SEGMENT);
	static store_location locations[3000];
	struct store_usage usage;
	(void)state;

	store_put(store, PAGE_RANDOM, 0, 3000, locations);
	usage = store_usage(store);

	assert_in_range(usage.pool_bytes, SEGMENT, 4 * SEGMENT);
	assert_true(usage.evicted_bytes > 6 * SEGMENT);
	assert_int_equal(usage.evicted_bytes, usage.written_bytes);
	assert_int_equal(store_place(store, locations[0]), STORE_PLACE_FILE);
	assert_int_equal(store_place(store, locations[2999]), STORE_PLACE_POOL);
	for (uint32_t i = 1; i < 3000; i++) {
		/* Nothing in the file is younger than something in the pool. */
		assert_false(store_place(store, locations[i - 1]) == STORE_PLACE_POOL &&
			     store_place(store, locations[i]) == STORE_PLACE_FILE);
		store_expect(store, locations[i], PAGE_RANDOM, i);
	}
	store_drop_all(store, locations, 3000);
	store_reclaim_all(store);
	usage = store_usage(store);
	assert_int_equal(usage.entries + usage.live_bytes + usage.pool_bytes + usage.file_bytes, 0);
	store_destroy(store);
}

static void a_pool_without_a_file_says_that_it_is_full(void **state)
{
	struct store_config config = {.pool_bytes = 2 * SEGMENT + 5 * PAGE};
	struct store *store = store_make(&config);
	static store_location locations[1000];
	(void)state;

	assert_int_equal(store_try_put(store, PAGE_RANDOM, 0, 1000, locations), -EDQUOT);

	assert_in_range(store_usage(store).pool_bytes, config.pool_bytes * 9 / 10,
			config.pool_bytes);
	store_expect(store, locations[0], PAGE_RANDOM, 0);
	store_drop_all(store, locations, 1000);
	assert_int_equal(store_usage(store).pool_bytes, 0);
	store_put(store, PAGE_RANDOM, 5, 100, locations);
	store_expect(store, locations[50], PAGE_RANDOM, 55);
	store_destroy(store);
}

static void a_pool_that_cannot_be_evicted_loses_nothing(void **state)
{
	struct store *store = make_with_pool(2 * SEGMENT);
	static store_location locations[3000];
	struct rlimit before, limit;
	int result;
	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = 0;
	setrlimit(RLIMIT_FSIZE, &limit);

	result = store_try_put(store, PAGE_RANDOM, 0, 3000, locations);
	for (int i = 0; i < 20; i++)
		assert_int_equal(store_try_put(store, PAGE_RANDOM, 0, 1, locations + 2999), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &before);

	assert_int_equal(result, -EFBIG);
	assert_true(store_usage(store).pool_bytes <= 6 * SEGMENT);
	assert_int_equal(store_usage(store).file_bytes, 0);
	for (uint32_t i = 0; i < 500; i++)
		store_expect(store, locations[i], PAGE_RANDOM, i);
	/* It recovers. */
	store_drop_all(store, locations, 3000);
	store_put(store, PAGE_RANDOM, 0, 3000, locations);
	store_expect(store, locations[0], PAGE_RANDOM, 0);
	assert_int_equal(store_place(store, locations[0]), STORE_PLACE_FILE);
	store_destroy(store);
}

static void a_limit_of_the_file_ends_eviction(void **state)
{
	struct store_config config = store_test_config();
	static store_location locations[3000];
	struct store *store;
	(void)state;
	config.pool_bytes = 2 * SEGMENT;
	config.limit_bytes = 3 * SEGMENT;
	store = store_make(&config);

	assert_int_equal(store_try_put(store, PAGE_RANDOM, 0, 3000, locations), -EDQUOT);

	assert_true(store_usage(store).file_bytes <= config.limit_bytes);
	assert_true(store_usage(store).pool_bytes <= config.pool_bytes + 2 * SEGMENT);
	store_destroy(store);
}

static void dropping_all_of_a_segment_frees_its_memory(void **state)
{
	struct store *store = make_with_pool(16 * SEGMENT);
	static store_location locations[2000];
	uint64_t before;
	(void)state;
	store_put(store, PAGE_RANDOM, 0, 2000, locations);
	before = store_usage(store).pool_bytes;

	store_drop_all(store, locations, 1000);

	assert_in_range(store_usage(store).pool_bytes, before * 4 / 10, before * 7 / 10);
	store_destroy(store);
}

/* ---- readers, writers and droppers side by side ---- */

#define PER_ROUND 600u
#define ROUNDS    12u

static struct store *shared;
static store_location kept[PER_ROUND];             /* live all the time */
static _Atomic store_location fleeting[PER_ROUND]; /* dropped at any time */
static atomic_bool stop;
static atomic_uint wrong;

static void *read_all_the_time(void *arg)
{
	static _Thread_local uint8_t back[64][PAGE];
	uint8_t expected[PAGE];
	void *pages[64];
	struct store_reader *reader;
	uint32_t at = *(uint32_t *)arg;

	for (size_t i = 0; i < 64; i++)
		pages[i] = back[i];
	if (store_reader_create(shared, &reader))
		return NULL;
	while (!atomic_load(&stop)) {
		store_location passing;
		int result;

		at = (at + 64) % (PER_ROUND - 64);
		if (store_read(reader, kept + at, 64, pages))
			atomic_fetch_add(&wrong, 1);
		store_page(expected, PAGE_RANDOM, at + 3);
		if (memcmp(back[3], expected, PAGE))
			atomic_fetch_add(&wrong, 1);
		passing = atomic_load(&fleeting[at]);
		result = store_read(reader, &passing, 1, pages);
		if (result && result != -EBADMSG)
			atomic_fetch_add(&wrong, 1);
	}
	store_reader_destroy(reader);
	return NULL;
}

static void readers_see_the_right_pages_while_all_moves(void **state)
{
	static store_location locations[PER_ROUND];
	static uint32_t starts[2] = {0, 320};
	pthread_t threads[2];
	(void)state;
	shared = make_with_pool(3 * SEGMENT);
	atomic_store(&stop, false);
	store_put(shared, PAGE_RANDOM, 0, PER_ROUND, kept);
	store_put(shared, PAGE_RANDOM, 0, PER_ROUND, locations);
	for (size_t i = 0; i < PER_ROUND; i++)
		atomic_store(&fleeting[i], locations[i]);
	for (size_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, read_all_the_time, &starts[i]);

	for (uint32_t round = 0; round < ROUNDS; round++) {
		store_drop_all(shared, locations, PER_ROUND);
		store_reclaim(shared);
		store_put(shared, PAGE_RANDOM, round, PER_ROUND, locations);
		for (size_t i = 0; i < PER_ROUND; i++)
			atomic_store(&fleeting[i], locations[i]);
	}
	atomic_store(&stop, true);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);

	assert_int_equal(atomic_load(&wrong), 0);
	store_drop_all(shared, locations, PER_ROUND);
	store_drop_all(shared, kept, PER_ROUND);
	store_reclaim_all(shared);
	assert_int_equal(store_usage(shared).pool_bytes, 0);
	assert_int_equal(store_usage(shared).file_bytes, 0);
	store_destroy(shared);
}

static void *put_and_check(void *arg)
{
	store_location locations[PER_ROUND];
	uint8_t page[PAGE], expected[PAGE];
	uint32_t seed = *(uint32_t *)arg;

	for (uint32_t round = 0; round < 4; round++) {
		if (store_try_put(shared, PAGE_RANDOM, seed, PER_ROUND, locations))
			atomic_fetch_add(&wrong, 1);
		for (uint32_t i = 0; i < PER_ROUND; i += 50) {
			store_page(expected, PAGE_RANDOM, seed + i);
			if (store_read_one(shared, locations[i], page) ||
			    memcmp(page, expected, PAGE))
				atomic_fetch_add(&wrong, 1);
		}
		store_drop_all(shared, locations, PER_ROUND);
		store_reclaim_all(shared);
	}
	return NULL;
}

static void writers_work_side_by_side(void **state)
{
	static uint32_t seeds[3] = {1, 10001, 20001};
	(void)state;

	for (uint64_t pool = 0; pool <= 2; pool++) {
		pthread_t threads[3];

		shared = make_with_pool(pool * SEGMENT);
		for (size_t i = 0; i < 3; i++)
			pthread_create(&threads[i], NULL, put_and_check, &seeds[i]);
		for (size_t i = 0; i < 3; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(atomic_load(&wrong), 0);
		assert_int_equal(store_usage(shared).entries, 0);
		assert_int_equal(store_usage(shared).pool_bytes, 0);
		assert_int_equal(store_usage(shared).file_bytes, 0);
		store_destroy(shared);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_stays_in_the_pool),
		cmocka_unit_test(the_pool_is_in_no_core_dump),
		cmocka_unit_test(the_oldest_are_evicted),
		cmocka_unit_test(a_pool_without_a_file_says_that_it_is_full),
		cmocka_unit_test(a_pool_that_cannot_be_evicted_loses_nothing),
		cmocka_unit_test(a_limit_of_the_file_ends_eviction),
		cmocka_unit_test(dropping_all_of_a_segment_frees_its_memory),
		cmocka_unit_test(readers_see_the_right_pages_while_all_moves),
		cmocka_unit_test(writers_work_side_by_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
