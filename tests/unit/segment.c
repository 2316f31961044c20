/* The tables of the store: segments, slots of the file, locations. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "swap/segment.h"
#include "swap/slot_map.h"
#include "swap/store_location.h"

static void an_index_is_given_again_a_sequence_number_never(void **state)
{
	struct segment_table table;
	uint32_t index;
	uint64_t last = 0;
	(void)state;
	assert_int_equal(segment_table_init(&table), 0);

	for (int i = 0; i < 3000; i++) {
		assert_int_equal(segment_take(&table, &index), 0);
		assert_true(segment_find(&table, index)->sequence > last);
		last = segment_find(&table, index)->sequence;
		if (i % 3)
			segment_release(&table, index);
	}

	assert_true(table.count <= 1001);
	assert_null(segment_find(&table, SEGMENTS_MAX - 1));
	assert_null(segment_find(&table, SEGMENT_NONE));
	segment_table_destroy(&table);
}

static void lists_keep_their_order(void **state)
{
	struct segment_table table;
	uint32_t indices[5];
	(void)state;
	assert_int_equal(segment_table_init(&table), 0);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(segment_take(&table, &indices[i]), 0);

	for (size_t i = 0; i < 4; i++)
		segment_append(&table, &table.pool, indices[i]);
	segment_unlink(&table, &table.pool, indices[1]);
	segment_unlink(&table, &table.pool, indices[3]);
	segment_prepend(&table, &table.pool, indices[4]);

	assert_int_equal(table.pool.first, indices[4]);
	assert_int_equal(segment_find(&table, indices[4])->next, indices[0]);
	assert_int_equal(segment_find(&table, indices[0])->next, indices[2]);
	assert_int_equal(table.pool.last, indices[2]);
	segment_table_destroy(&table);
}

static void sums_follow_what_changes(void **state)
{
	struct segment_table table;
	struct segment *segment;
	uint32_t index;
	(void)state;
	assert_int_equal(segment_table_init(&table), 0);
	assert_int_equal(segment_take(&table, &index), 0);
	segment = segment_find(&table, index);
	segment->state = SEGMENT_FILE;
	segment->live = 1000000;
	segment->entries = 500;
	segment->cost = SEGMENT_MAX;
	segment->used = 1000000;
	segment_count(&table, segment);

	assert_int_equal(table.sums.live_file, 1000000);
	assert_int_equal(table.sums.dead_in_half_dead, 0);
	segment_uncount(&table, segment);
	segment->live = 100000;
	segment->entries = 50;
	segment_count(&table, segment);

	assert_int_equal(table.sums.entries_file, 50);
	assert_int_equal(table.sums.dead_in_half_dead, SEGMENT_MAX - 100000);
	segment_uncount(&table, segment);
	assert_int_equal(table.sums.live_file + table.sums.cost_file + table.sums.entries_file, 0);
	assert_int_equal(table.sums.dead_in_half_dead, 0);
	segment_table_destroy(&table);
}

static void the_lowest_slot_is_given_first(void **state)
{
	struct slot_map map = {.slots = 1000};
	uint32_t slot;
	(void)state;

	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(slot_take(&map, &slot), 0);
		assert_int_equal(slot, i);
	}
	assert_int_equal(slot_take(&map, &slot), -ENOSPC);
	slot_give(&map, 999);
	slot_give(&map, 70);
	slot_give(&map, 500);

	assert_int_equal(slot_take(&map, &slot), 0);
	assert_int_equal(slot, 70);
	assert_int_equal(slot_take(&map, &slot), 0);
	assert_int_equal(slot, 500);
	assert_int_equal(slot_take(&map, &slot), 0);
	assert_int_equal(slot, 999);
	assert_int_equal(slot_take(&map, &slot), -ENOSPC);
	slot_map_destroy(&map);
}

static void a_location_says_where_a_record_is(void **state)
{
	static const struct record_place places[] = {
		{0, 0, 32},
		{SEGMENTS_MAX - 1, SEGMENT_MAX - 16, RECORD_RAW},
		{12345, 65536, 2048},
	};
	(void)state;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		store_location location = location_of_record(places[i]);
		struct record_place back = location_record(location);

		assert_true(location <= STORE_LOCATION_MAX);
		assert_int_equal(location_kind(location), LOCATION_RECORD);
		assert_memory_equal(&back, &places[i], sizeof(back));
	}
}

static void a_location_says_a_word_or_that_it_cannot(void **state)
{
	static const uint64_t can[] = {0,
				       1,
				       UINT64_MAX,
				       0xffff888012345678ull,
				       0x7ffff7dd5000ull,
				       0xaaaaaaaaaaaaaaaaull,
				       0x1234567812345678ull,
				       0xfedcba9876543800ull};
	static const uint64_t cannot[] = {0x0123456789abcdefull, 0x8000000000000001ull};
	store_location location;
	(void)state;

	for (size_t i = 0; i < sizeof(can) / sizeof(can[0]); i++) {
		assert_true(location_of_word(can[i], &location));
		assert_true(location <= STORE_LOCATION_MAX);
		assert_int_not_equal(location_kind(location), LOCATION_RECORD);
		assert_int_equal(location_word(location), can[i]);
	}
	for (size_t i = 0; i < sizeof(cannot) / sizeof(cannot[0]); i++)
		assert_false(location_of_word(cannot[i], &location));
}

static void a_page_is_filled_only_if_all_of_it_is(void **state)
{
	uint64_t page[STORE_PAGE / 8], word;
	(void)state;

	for (size_t i = 0; i < STORE_PAGE / 8; i++)
		page[i] = 0x42;
	assert_true(page_is_filled(page, &word));
	assert_int_equal(word, 0x42);
	for (size_t i = 0; i < STORE_PAGE; i += 61) {
		((uint8_t *)page)[i] ^= 1;
		assert_false(page_is_filled(page, &word));
		((uint8_t *)page)[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_is_given_again_a_sequence_number_never),
		cmocka_unit_test(lists_keep_their_order),
		cmocka_unit_test(sums_follow_what_changes),
		cmocka_unit_test(the_lowest_slot_is_given_first),
		cmocka_unit_test(a_location_says_where_a_record_is),
		cmocka_unit_test(a_location_says_a_word_or_that_it_cannot),
		cmocka_unit_test(a_page_is_filled_only_if_all_of_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
