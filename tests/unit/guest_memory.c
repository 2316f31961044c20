/* The gate for guest addresses, at every edge. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "memory/guest_memory.h"

/* Two regions with a hole between them, and a third that touches the second. */
#define LOW_SIZE  (4 * GUEST_PAGE_SIZE)
#define HIGH_BASE (16 * GUEST_PAGE_SIZE)
#define HIGH_SIZE (2 * GUEST_PAGE_SIZE)
#define TOP_BASE  (HIGH_BASE + HIGH_SIZE)
#define END       (TOP_BASE + GUEST_PAGE_SIZE)

static int create(void **state)
{
	static const struct guest_memory_region layout[] = {
		{.base = 0, .size = LOW_SIZE},
		{.base = HIGH_BASE, .size = HIGH_SIZE},
		{.base = TOP_BASE, .size = GUEST_PAGE_SIZE},
	};

	return guest_memory_create(layout, 3, (struct guest_memory **)state, NULL);
}

static int destroy(void **state)
{
	guest_memory_destroy(*state);
	return 0;
}

static void both_views_show_the_same_memory(void **state)
{
	struct guest_memory *memory = *state;

	guest_memory_guest_view(memory)[5000] = 42;

	assert_int_equal(guest_memory_pager_view(memory)[5000], 42);
}

static void an_access_may_end_at_the_end_of_ram_and_not_behind_it(void **state)
{
	struct guest_memory *memory = *state;
	uint8_t bytes[16] = {0};

	assert_int_equal(guest_memory_read(memory, END - 16, bytes, 16), 0);
	assert_int_equal(guest_memory_read(memory, END - 15, bytes, 16), -EFAULT);
	assert_int_equal(guest_memory_read(memory, LOW_SIZE - 16, bytes, 16), 0);
	assert_int_equal(guest_memory_read(memory, LOW_SIZE - 15, bytes, 16), -EFAULT);
	assert_int_equal(guest_memory_read(memory, HIGH_BASE - 1, bytes, 2), -EFAULT);
	assert_int_equal(guest_memory_read(memory, UINT64_MAX, bytes, 2), -EFAULT);
	assert_int_equal(guest_memory_read(memory, UINT64_MAX - 15, bytes, 16), -EFAULT);
}

static void an_empty_access_is_valid_inside_ram_and_at_its_end(void **state)
{
	struct guest_memory *memory = *state;

	assert_true(guest_memory_contains(memory, 0, 0));
	assert_true(guest_memory_contains(memory, LOW_SIZE, 0));
	assert_true(guest_memory_contains(memory, END, 0));
	assert_false(guest_memory_contains(memory, LOW_SIZE + 1, 0));
	assert_false(guest_memory_contains(memory, END + 1, 0));
}

static void a_refused_write_changes_nothing(void **state)
{
	struct guest_memory *memory = *state;
	const uint8_t ones[32] = {1, 1, 1, 1};

	assert_int_equal(guest_memory_write(memory, LOW_SIZE - 4, ones, 32), -EFAULT);
	assert_int_equal(guest_memory_fill(memory, LOW_SIZE - 4, 1, 32), -EFAULT);

	assert_int_equal(guest_memory_guest_view(memory)[LOW_SIZE - 4], 0);
}

static void an_access_crosses_adjacent_regions(void **state)
{
	struct guest_memory *memory = *state;
	const char text[] = "across the border";
	char back[sizeof(text)];

	assert_int_equal(guest_memory_write(memory, TOP_BASE - 7, text, sizeof(text)), 0);
	assert_int_equal(guest_memory_read(memory, TOP_BASE - 7, back, sizeof(back)), 0);

	assert_string_equal(back, text);
}

static void regions_follow_each_other_in_the_memfd(void **state)
{
	struct guest_memory *memory = *state;

	guest_memory_fill(memory, HIGH_BASE, 7, 1);

	assert_int_equal(guest_memory_guest_view(memory)[LOW_SIZE], 7);
	assert_int_equal(guest_memory_region(memory, 1)->offset, LOW_SIZE);
	assert_int_equal(guest_memory_size(memory), LOW_SIZE + HIGH_SIZE + GUEST_PAGE_SIZE);
	assert_null(guest_memory_region(memory, 3));
}

static void a_slice_lies_in_one_region(void **state)
{
	struct guest_memory *memory = *state;
	void *host = NULL;

	assert_int_equal(guest_memory_slice(memory, HIGH_BASE, HIGH_SIZE, &host), 0);
	assert_ptr_equal(host, guest_memory_guest_view(memory) + LOW_SIZE);
	assert_int_equal(guest_memory_slice(memory, HIGH_BASE, HIGH_SIZE + 1, &host), -EFAULT);
	assert_int_equal(guest_memory_slice(memory, LOW_SIZE - 1, 2, &host), -EFAULT);
}

static void an_iovec_has_one_entry_per_region(void **state)
{
	struct guest_memory *memory = *state;
	struct iovec iov[2];
	size_t count = 9;

	assert_int_equal(guest_memory_iovec(memory, TOP_BASE - 8, 16, iov, 2, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(iov[0].iov_len, 8);
	assert_int_equal(iov[1].iov_len, 8);
	assert_int_equal(guest_memory_iovec(memory, TOP_BASE - 8, 16, iov, 1, &count), -ENOBUFS);
	assert_int_equal(guest_memory_iovec(memory, LOW_SIZE - 8, 16, iov, 2, &count), -EFAULT);
	assert_int_equal(guest_memory_iovec(memory, 0, 0, iov, 2, &count), 0);
	assert_int_equal(count, 0);
}

static void atomic_accesses_are_aligned_and_of_a_known_width(void **state)
{
	struct guest_memory *memory = *state;
	uint64_t value;

	assert_int_equal(guest_memory_store(memory, 8, 2, 0x12345), 0);
	assert_int_equal(guest_memory_load(memory, 8, 2, &value), 0);
	assert_int_equal(value, 0x2345);
	assert_int_equal(guest_memory_load(memory, 8, 8, &value), 0);
	assert_int_equal(value, 0x2345);
	assert_int_equal(guest_memory_load(memory, 9, 2, &value), -EINVAL);
	assert_int_equal(guest_memory_load(memory, 8, 3, &value), -EINVAL);
	assert_int_equal(guest_memory_load(memory, LOW_SIZE, 8, &value), -EFAULT);
	assert_int_equal(guest_memory_store(memory, END, 1, 1), -EFAULT);
}

static void compare_exchange_replaces_only_what_was_expected(void **state)
{
	struct guest_memory *memory = *state;

	for (unsigned size = 1; size <= 8; size *= 2) {
		uint64_t expected = 0;

		assert_int_equal(guest_memory_compare_exchange(memory, 64, size, &expected, 5), 0);
		expected = 4;
		assert_int_equal(guest_memory_compare_exchange(memory, 64, size, &expected, 6),
				 -EAGAIN);
		assert_int_equal(expected, 5);
		assert_int_equal(guest_memory_fill(memory, 64, 0, 8), 0);
	}
}

static void a_discard_gives_memory_back_and_reads_as_zeros(void **state)
{
	struct guest_memory *memory = *state;
	uint64_t before, after;
	guest_memory_fill(memory, 0, 0xff, LOW_SIZE);
	guest_memory_allocated(memory, &before);

	assert_int_equal(guest_memory_discard(memory, GUEST_PAGE_SIZE, GUEST_PAGE_SIZE), 0);

	guest_memory_allocated(memory, &after);
	assert_int_equal(before - after, GUEST_PAGE_SIZE);
	assert_int_equal(guest_memory_guest_view(memory)[GUEST_PAGE_SIZE], 0);
	assert_int_equal(guest_memory_guest_view(memory)[0], 0xff);
	assert_int_equal(guest_memory_guest_view(memory)[2 * GUEST_PAGE_SIZE], 0xff);
}

static void a_discard_is_page_aligned_and_in_ram(void **state)
{
	struct guest_memory *memory = *state;

	assert_int_equal(guest_memory_discard(memory, 1, GUEST_PAGE_SIZE), -EINVAL);
	assert_int_equal(guest_memory_discard(memory, 0, 100), -EINVAL);
	assert_int_equal(guest_memory_discard(memory, LOW_SIZE, GUEST_PAGE_SIZE), -EFAULT);
	assert_int_equal(guest_memory_discard(memory, 0, 1ull << 63), -EFAULT);
	assert_int_equal(guest_memory_discard(memory, HIGH_BASE, HIGH_SIZE + GUEST_PAGE_SIZE), 0);
}

static void populated_stretches_are_found(void **state)
{
	struct guest_memory *memory = *state;
	uint64_t start, end;
	guest_memory_guest_view(memory)[2 * GUEST_PAGE_SIZE] = 1;

	assert_int_equal(guest_memory_next_data(memory, 0, &start, &end), 0);
	assert_int_equal(start, 2 * GUEST_PAGE_SIZE);
	assert_int_equal(end, 3 * GUEST_PAGE_SIZE);
	assert_int_equal(guest_memory_next_data(memory, end, &start, &end), -ENXIO);
	assert_int_equal(guest_memory_next_data(memory, 1ull << 40, &start, &end), -ENXIO);
}

static void punching_and_zapping_stay_inside_the_memfd(void **state)
{
	struct guest_memory *memory = *state;
	uint64_t size = guest_memory_size(memory);

	assert_int_equal(guest_memory_punch(memory, 0, size), 0);
	assert_int_equal(guest_memory_punch(memory, 0, size + GUEST_PAGE_SIZE), -EINVAL);
	assert_int_equal(guest_memory_punch(memory, 1, GUEST_PAGE_SIZE), -EINVAL);
	assert_int_equal(guest_memory_zap(memory, size, GUEST_PAGE_SIZE), -EINVAL);
	assert_int_equal(guest_memory_zap(memory, 0, size), 0);
}

static void reading_through_the_memfd_populates_nothing(void **state)
{
	struct guest_memory *memory = *state;
	uint8_t page[GUEST_PAGE_SIZE];
	uint64_t bytes;

	assert_int_equal(guest_memory_read_offset(memory, 0, page, sizeof(page)), 0);

	guest_memory_allocated(memory, &bytes);
	assert_int_equal(bytes, 0);
	assert_int_equal(guest_memory_read_offset(memory, guest_memory_size(memory) - 1, page, 2),
			 -EINVAL);
}

static void bad_layouts_are_refused(void **state)
{
	static const struct guest_memory_region bad[][2] = {
		{{.base = 0, .size = 0}, {.base = 8192, .size = 4096}},
		{{.base = 0, .size = 100}, {.base = 8192, .size = 4096}},
		{{.base = 100, .size = 4096}, {.base = 8192, .size = 4096}},
		{{.base = 0, .size = 8192}, {.base = 4096, .size = 4096}},
		{{.base = 8192, .size = 4096}, {.base = 0, .size = 4096}},
		{{.base = 0, .size = 4096}, {.base = UINT64_MAX - 4095, .size = 8192}},
		{{.base = 0, .size = 1ull << 63}, {.base = 1ull << 63, .size = 1ull << 62}},
	};
	struct guest_memory *memory;
	(void)state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(guest_memory_create(bad[i], 2, &memory, NULL), -EINVAL);
	assert_int_equal(guest_memory_create(bad[0], 0, &memory, NULL), -EINVAL);
}

static void pages_in_ram_are_counted_without_populating_any(void **state)
{
	struct guest_memory *memory = *state;
	uint64_t pages, bytes;

	guest_memory_guest_view(memory)[2 * GUEST_PAGE_SIZE] = 1;
	guest_memory_guest_view(memory)[5 * GUEST_PAGE_SIZE] = 1;

	assert_int_equal(guest_memory_count_present(memory, 0, guest_memory_size(memory), &pages),
			 0);
	assert_int_equal(pages, 2);
	assert_int_equal(guest_memory_count_present(memory, 3 * GUEST_PAGE_SIZE,
						    2 * GUEST_PAGE_SIZE, &pages),
			 0);
	assert_int_equal(pages, 0);
	assert_int_equal(guest_memory_allocated(memory, &bytes), 0);
	assert_int_equal(bytes, 2 * GUEST_PAGE_SIZE);
	assert_int_equal(guest_memory_count_present(memory, 6 * GUEST_PAGE_SIZE,
						    2 * GUEST_PAGE_SIZE, &pages),
			 -EINVAL);
}

#define with_memory(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_memory(both_views_show_the_same_memory),
		with_memory(an_access_may_end_at_the_end_of_ram_and_not_behind_it),
		with_memory(an_empty_access_is_valid_inside_ram_and_at_its_end),
		with_memory(a_refused_write_changes_nothing),
		with_memory(an_access_crosses_adjacent_regions),
		with_memory(regions_follow_each_other_in_the_memfd),
		with_memory(a_slice_lies_in_one_region),
		with_memory(an_iovec_has_one_entry_per_region),
		with_memory(atomic_accesses_are_aligned_and_of_a_known_width),
		with_memory(compare_exchange_replaces_only_what_was_expected),
		with_memory(a_discard_gives_memory_back_and_reads_as_zeros),
		with_memory(a_discard_is_page_aligned_and_in_ram),
		with_memory(populated_stretches_are_found),
		with_memory(punching_and_zapping_stay_inside_the_memfd),
		with_memory(pages_in_ram_are_counted_without_populating_any),
		with_memory(reading_through_the_memfd_populates_nothing),
		cmocka_unit_test(bad_layouts_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
