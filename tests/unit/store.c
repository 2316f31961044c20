/* The store: what goes in comes out, what is dropped takes no space, and it says what it holds. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/store_fixture.h"

static void every_kind_of_page_comes_back(struct store_config config)
{
	struct store *store = store_make(&config);
	store_location locations[PAGE_KINDS][64];

	for (uint32_t kind = 0; kind < PAGE_KINDS; kind++)
		store_put(store, (enum page_kind)kind, 7, 64, locations[kind]);

	for (uint32_t kind = 0; kind < PAGE_KINDS; kind++)
		for (uint32_t i = 64; i-- > 0;)
			store_expect(store, locations[kind][i], (enum page_kind)kind, 7 + i);
	assert_int_equal(store_usage(store).entries, PAGE_KINDS * 64);
	assert_int_equal(store_usage(store).entries_filled, 64);
	store_destroy(store);
}

static void pages_come_back_however_they_are_kept(void **state)
{
	struct store_config config = store_test_config();
	(void)state;

	for (int compression = 0; compression <= STORE_COMPRESS_NONE; compression++) {
		for (int encrypt = 0; encrypt <= 1; encrypt++) {
			for (int pool = 0; pool <= 2; pool++) {
				config.compression = (enum store_compression)compression;
				config.encrypt = encrypt;
				config.pool_bytes = pool == 0 ? 0 : pool == 1 ? 1 : 64 << 20;
				every_kind_of_page_comes_back(config);
			}
		}
	}
}

static void a_batch_is_read_in_the_order_that_was_asked_for(void **state)
{
	struct store *store = *state;
	static uint8_t back[STORE_BATCH_MAX][PAGE];
	uint8_t expected[PAGE];
	void *pages[STORE_BATCH_MAX];
	store_location locations[STORE_BATCH_MAX], mixed[STORE_BATCH_MAX];
	struct store_reader *reader;
	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++) {
		locations[i] = store_put_one(store, (enum page_kind)(i % PAGE_KINDS), i);
		pages[i] = back[i];
	}
	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++)
		mixed[i] = locations[(i * 77 + 13) % STORE_BATCH_MAX];
	mixed[5] = mixed[6];
	assert_int_equal(store_reader_create(store, &reader), 0);

	assert_int_equal(store_read(reader, mixed, STORE_BATCH_MAX, pages), 0);

	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++) {
		uint32_t seed = ((i == 5 ? 6 : i) * 77 + 13) % STORE_BATCH_MAX;

		store_page(expected, (enum page_kind)(seed % PAGE_KINDS), seed);
		assert_memory_equal(back[i], expected, PAGE);
	}
	store_reader_destroy(reader);
}

static void two_reads_are_under_way_and_a_third_between(void **state)
{
	struct store *store = *state;
	static uint8_t back[3][300][PAGE];
	uint8_t expected[PAGE];
	void *pages[3][300];
	store_location locations[900];
	struct store_reader *reader;
	unsigned first, second;
	store_put(store, PAGE_RANDOM, 0, 900, locations);
	for (size_t i = 0; i < 900; i++)
		pages[i / 300][i % 300] = back[i / 300][i % 300];
	assert_int_equal(store_reader_create(store, &reader), 0);

	assert_int_equal(store_read_begin(reader, locations, 300, &first), 0);
	assert_int_equal(store_read_begin(reader, locations + 300, 300, &second), 0);
	assert_int_equal(store_read(reader, locations + 600, 300, pages[2]), 0);
	assert_int_equal(store_read_finish(reader, second, pages[1]), 0);
	assert_int_equal(store_read_finish(reader, first, pages[0]), 0);

	for (uint32_t i = 0; i < 900; i++) {
		store_page(expected, PAGE_RANDOM, i);
		assert_memory_equal(back[i / 300][i % 300], expected, PAGE);
	}
	store_reader_destroy(reader);
}

static void two_parcels_are_under_way_while_a_third_is_filled(void **state)
{
	struct store *store = *state;
	struct store_writer *writer;
	store_location locations[3];
	unsigned parcels[3];
	uint8_t page[PAGE];
	assert_int_equal(store_writer_create(store, &writer), 0);

	for (uint32_t i = 0; i < 3; i++) {
		store_page(page, PAGE_RANDOM, i);
		assert_int_equal(store_append(writer, page, &locations[i]), 0);
		if (i < 2)
			assert_true(store_seal(writer, &parcels[i]));
	}
	assert_int_equal(store_wait(writer, parcels[0]), 0);
	assert_true(store_seal(writer, &parcels[2]));
	assert_int_equal(store_wait(writer, parcels[2]), 0);
	assert_int_equal(store_wait(writer, parcels[1]), 0);
	assert_false(store_seal(writer, &parcels[0]));

	for (uint32_t i = 0; i < 3; i++)
		store_expect(store, locations[i], PAGE_RANDOM, i);
	store_writer_destroy(writer);
}

static void filled_pages_take_no_space(void **state)
{
	static const uint64_t words[] = {0,
					 UINT64_MAX,
					 0xffffffff81000000ull,
					 0xdeadbeefdeadbeefull,
					 0x0101010101010101ull,
					 0xabcdef0000000000ull};
	struct store *store = *state;
	uint64_t page[PAGE / 8], back[PAGE / 8];
	struct store_writer *writer;
	store_location location;
	unsigned parcel;
	assert_int_equal(store_writer_create(store, &writer), 0);

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		for (size_t j = 0; j < PAGE / 8; j++)
			page[j] = words[i];
		assert_int_equal(store_append(writer, page, &location), 0);
		assert_int_equal(store_place(store, location), STORE_PLACE_NOWHERE);
		assert_int_equal(store_read_one(store, location, (uint8_t *)back), 0);
		assert_memory_equal(page, back, PAGE);
	}
	assert_true(store_seal(writer, &parcel));
	assert_int_equal(store_wait(writer, parcel), 0);

	assert_int_equal(store_usage(store).entries_filled, sizeof(words) / sizeof(words[0]));
	assert_int_equal(store_usage(store).live_bytes, 0);
	assert_int_equal(store_usage(store).file_bytes, 0);
	store_writer_destroy(writer);
}

static void what_does_not_compress_costs_a_tag_more(void **state)
{
	struct store *store = *state;
	store_location locations[10];

	store_put(store, PAGE_RANDOM, 1, 10, locations);

	assert_in_range(store_usage(store).live_bytes, 10 * PAGE, 10 * (PAGE + 32));
}

static void what_compresses_takes_less(void **state)
{
	struct store *store = *state;
	store_location locations[100];

	store_put(store, PAGE_TEXT, 1, 100, locations);

	assert_true(store_usage(store).live_bytes < 100 * PAGE / 2);
}

static void dropped_entries_give_their_space_back(void **state)
{
	struct store *store = *state;
	static store_location locations[2000];
	struct stat info;
	store_put(store, PAGE_RANDOM, 0, 2000, locations);
	assert_true(store_usage(store).file_bytes >= 2000 * PAGE);

	store_drop_all(store, locations, 1999);
	store_reclaim_all(store);
	assert_true(store_usage(store).file_bytes <= SEGMENT);
	store_expect(store, locations[1999], PAGE_RANDOM, 1999);
	store_drop(store, locations[1999]);
	store_reclaim_all(store);

	assert_int_equal(store_usage(store).entries, 0);
	assert_int_equal(store_usage(store).live_bytes, 0);
	assert_int_equal(store_usage(store).file_bytes, 0);
	assert_int_equal(fstat(store_find_file(), &info), 0);
	assert_int_equal(info.st_blocks, 0);
}

static void a_reused_slot_keeps_its_new_contents(void **state)
{
	struct store *store = *state;
	static store_location locations[4000];

	/* Dead segments are punched late: no punch may hit what was put meanwhile. */
	for (uint32_t i = 0; i < 4000; i += 4) {
		store_put(store, PAGE_TEXT, i, 4, locations + i);
		if (i >= 40)
			store_drop_all(store, locations + i - 40, 4);
		if (i % 16 == 0)
			store_reclaim(store);
	}

	for (uint32_t i = 3960; i < 4000; i++)
		store_expect(store, locations[i], PAGE_TEXT, i);
	store_reclaim_all(store);
	assert_int_equal(store_usage(store).entries, 40);
	assert_true(store_usage(store).file_bytes <= 10 * 3 * PAGE);
}

static void usage_adds_up(void **state)
{
	struct store *store = *state;
	store_location text[100], random[100], filled[100];
	struct store_usage usage;
	struct stat info;

	store_put(store, PAGE_TEXT, 0, 100, text);
	store_put(store, PAGE_RANDOM, 0, 100, random);
	store_put(store, PAGE_FILLED, 0, 100, filled);
	store_drop_all(store, text, 50);
	usage = store_usage(store);

	assert_int_equal(usage.entries, 250);
	assert_int_equal(usage.entries_filled, 100);
	assert_int_equal(usage.entries_pool, 0);
	assert_int_equal(usage.pool_bytes, 0);
	assert_int_equal(usage.written_bytes, usage.file_bytes);
	assert_true(usage.file_bytes >= usage.live_bytes);
	assert_int_equal(fstat(store_find_file(), &info), 0);
	/* A file system may keep its own tables in blocks of the file. */
	assert_in_range((uint64_t)info.st_blocks * 512, usage.file_bytes, usage.file_bytes + 65536);
}

static void records_put_in_a_row_are_adjacent(void **state)
{
	struct store *store = *state;
	store_location row[3], alone, filled;

	store_put(store, PAGE_TEXT, 0, 3, row);
	alone = store_put_one(store, PAGE_TEXT, 9);
	filled = store_put_one(store, PAGE_FILLED, 9);

	assert_true(store_adjacent(row[0], row[1]));
	assert_true(store_adjacent(row[1], row[2]));
	assert_false(store_adjacent(row[0], row[2]));
	assert_false(store_adjacent(row[2], alone));
	assert_false(store_adjacent(filled, filled));
	assert_true(row[0] <= STORE_LOCATION_MAX && filled <= STORE_LOCATION_MAX);
}

static void an_entry_may_be_dropped_before_its_parcel_is_sealed(void **state)
{
	struct store *store = *state;
	struct store_writer *writer;
	store_location locations[2];
	uint8_t page[PAGE];
	unsigned parcel;
	assert_int_equal(store_writer_create(store, &writer), 0);
	for (uint32_t i = 0; i < 2; i++) {
		store_page(page, PAGE_RANDOM, i);
		assert_int_equal(store_append(writer, page, &locations[i]), 0);
	}

	store_drop(store, locations[0]);
	assert_true(store_seal(writer, &parcel));
	store_drop(store, locations[1]);
	assert_int_equal(store_wait(writer, parcel), 0);
	store_writer_destroy(writer);
	store_reclaim_all(store);

	assert_int_equal(store_usage(store).entries, 0);
	assert_int_equal(store_usage(store).file_bytes, 0);
}

static void parcels_nobody_waited_for_do_not_count(void **state)
{
	struct store *store = *state;
	struct store_writer *writer;
	store_location locations[2];
	uint8_t page[PAGE];
	unsigned parcel;
	assert_int_equal(store_writer_create(store, &writer), 0);
	store_page(page, PAGE_RANDOM, 1);
	assert_int_equal(store_append(writer, page, &locations[0]), 0);
	assert_true(store_seal(writer, &parcel));
	assert_int_equal(store_append(writer, page, &locations[1]), 0);

	store_writer_destroy(writer);

	assert_int_equal(store_usage(store).entries, 0);
	assert_int_equal(store_read_one(store, locations[0], page), -EBADMSG);
	assert_int_equal(store_read_one(store, locations[1], page), -EBADMSG);
	store_drop_all(store, locations, 2);
	store_reclaim_all(store);
	assert_int_equal(store_usage(store).file_bytes, 0);
}

static void a_dropped_entry_is_not_read(void **state)
{
	struct store *store = *state;
	store_location location = store_put_one(store, PAGE_RANDOM, 1);
	uint8_t page[PAGE];

	store_drop(store, location);

	assert_int_equal(store_read_one(store, location, page), -EBADMSG);
}

static void nonsense_locations_are_not_read(void **state)
{
	struct store *store = *state;
	uint8_t page[PAGE];
	store_put_one(store, PAGE_RANDOM, 1);

	for (unsigned bit = 0; bit < 53; bit++)
		assert_int_equal(store_read_one(store, 1ull << bit, page), -EBADMSG);
	assert_int_equal(store_read_one(store, (1ull << 53) - 1, page), -EBADMSG);
}

static void the_limit_is_used_but_never_exceeded(void **state)
{
	struct store_config config = store_test_config();
	static store_location locations[4000];
	struct store *store;
	(void)state;
	config.limit_bytes = 4 * SEGMENT + 12345;
	store = store_make(&config);

	assert_int_equal(store_try_put(store, PAGE_RANDOM, 0, 4000, locations), -EDQUOT);

	assert_in_range(store_usage(store).file_bytes, config.limit_bytes * 9 / 10,
			config.limit_bytes);
	store_expect(store, locations[0], PAGE_RANDOM, 0);
	/* What is dropped makes room, reclaimed or not. */
	store_drop_all(store, locations, 4000);
	store_put(store, PAGE_RANDOM, 0, 900, locations);
	store_destroy(store);
}

static void a_configuration_that_cannot_be_is_refused(void **state)
{
	struct store_config config = {.path = NULL};
	struct store *store;
	struct error err;
	(void)state;

	assert_int_equal(store_create(&config, &store, &err), -EINVAL);
	config = store_test_config();
	config.level = 100;
	assert_int_equal(store_create(&config, &store, &err), -EINVAL);
	config = store_test_config();
	config.path = "/dev/null";
	assert_int_equal(store_create(&config, &store, &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "/dev/null"));
	config.path = "/nonexistent/ebb";
	assert_int_equal(store_create(&config, &store, &err), -ENOENT);
	assert_non_null(strstr(err.text, "mkdir"));
	assert_int_equal(store_check_path("/nonexistent/ebb", &err), -ENOENT);
	assert_int_equal(store_check_path(store_directory(), &err), 0);
}

#define with_store(test) cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_come_back_however_they_are_kept),
		with_store(a_batch_is_read_in_the_order_that_was_asked_for),
		with_store(two_reads_are_under_way_and_a_third_between),
		with_store(two_parcels_are_under_way_while_a_third_is_filled),
		with_store(filled_pages_take_no_space),
		with_store(what_does_not_compress_costs_a_tag_more),
		with_store(what_compresses_takes_less),
		with_store(dropped_entries_give_their_space_back),
		with_store(a_reused_slot_keeps_its_new_contents),
		with_store(usage_adds_up),
		with_store(records_put_in_a_row_are_adjacent),
		with_store(an_entry_may_be_dropped_before_its_parcel_is_sealed),
		with_store(parcels_nobody_waited_for_do_not_count),
		with_store(a_dropped_entry_is_not_read),
		with_store(nonsense_locations_are_not_read),
		cmocka_unit_test(the_limit_is_used_but_never_exceeded),
		cmocka_unit_test(a_configuration_that_cannot_be_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
