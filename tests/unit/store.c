/* The store: what goes in comes out, what is dropped takes no space, a full disk is survived. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "swap/store.h"

#define PAGE 4096u

static const char *directory(void)
{
	const char *dir = getenv("EBB_TEST_DIR");

	return dir ? dir : "/var/tmp";
}

static int create(void **state)
{
	return store_create(directory(), (struct store **)state, NULL);
}

static int destroy(void **state)
{
	store_destroy(*state);
	return 0;
}

static void fill(uint8_t *page, uint32_t seed)
{
	for (size_t i = 0; i < PAGE; i++)
		page[i] = (uint8_t)((seed * 31 + i) * 7 >> 3);
}

static store_location put_one(struct store *store, uint32_t seed)
{
	uint8_t page[PAGE];
	const void *pages[] = {page};
	store_location location;
	size_t stored;

	fill(page, seed);
	assert_int_equal(store_put(store, pages, 1, &location, &stored), 0);
	assert_int_equal(stored, 1);
	return location;
}

static void assert_stored(struct store *store, store_location location, uint32_t seed)
{
	uint8_t page[PAGE], expected[PAGE];
	void *pages[] = {page};

	fill(expected, seed);
	assert_int_equal(store_get(store, &location, 1, pages), 0);
	assert_memory_equal(page, expected, PAGE);
}

static void what_was_put_is_got(void **state)
{
	struct store *store = *state;
	store_location locations[100];

	for (uint32_t i = 0; i < 100; i++)
		locations[i] = put_one(store, i);

	for (uint32_t i = 100; i-- > 0;)
		assert_stored(store, locations[i], i);
	assert_int_equal(store_live_bytes(store), 100 * PAGE);
}

static void a_batch_from_scattered_pages_is_kept_in_order(void **state)
{
	struct store *store = *state;
	static uint8_t memory[2 * STORE_BATCH_MAX][PAGE], back[STORE_BATCH_MAX][PAGE];
	const void *pages[STORE_BATCH_MAX];
	void *backs[STORE_BATCH_MAX];
	store_location locations[STORE_BATCH_MAX];
	size_t stored;
	for (size_t i = 0; i < STORE_BATCH_MAX; i++) {
		/* Every second page is adjacent to the next one, every second is not. */
		pages[i] = memory[2 * i - i % 2];
		fill(memory[2 * i - i % 2], (uint32_t)i);
		backs[STORE_BATCH_MAX - 1 - i] = back[i];
	}

	assert_int_equal(store_put(store, pages, STORE_BATCH_MAX, locations, &stored), 0);
	assert_int_equal(store_get(store, locations, STORE_BATCH_MAX, backs), 0);

	assert_int_equal(stored, STORE_BATCH_MAX);
	for (size_t i = 0; i < STORE_BATCH_MAX; i++)
		assert_memory_equal(backs[i], pages[i], PAGE);
}

static void dropped_entries_give_their_space_back(void **state)
{
	struct store *store = *state;
	store_location locations[64];
	for (uint32_t i = 0; i < 64; i++)
		locations[i] = put_one(store, i);

	for (size_t i = 0; i < 64; i += 2)
		store_drop(store, locations[i]);
	while (store_reclaim(store))
		;
	assert_int_equal(store_live_bytes(store), 32 * PAGE);
	assert_int_equal(store_disk_bytes(store), 32 * PAGE);
	for (uint32_t i = 1; i < 64; i += 2)
		assert_stored(store, locations[i], i);
	for (size_t i = 1; i < 64; i += 2)
		store_drop(store, locations[i]);
	while (store_reclaim(store))
		;

	assert_int_equal(store_live_bytes(store), 0);
	assert_int_equal(store_disk_bytes(store), 0);
}

static void a_reused_slot_keeps_its_new_contents(void **state)
{
	struct store *store = *state;
	static store_location locations[20000];

	/* Drops are punched late: no such punch may hit what was put meanwhile. */
	for (uint32_t i = 0; i < 20000; i++) {
		locations[i] = put_one(store, i);
		if (i >= 10)
			store_drop(store, locations[i - 10]);
	}

	for (uint32_t i = 19990; i < 20000; i++)
		assert_stored(store, locations[i], i);
	while (store_reclaim(store))
		;
	assert_int_equal(store_live_bytes(store), 10 * PAGE);
	assert_true(store_disk_bytes(store) <= 64 * PAGE);
}

/* The store's file as somebody else would get at it; -1: there is none. */
static int find_store_file(void)
{
	char path[64], target[256];
	struct stat info;

	for (int fd = 3; fd < 64; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0 || fstat(fd, &info) || !S_ISREG(info.st_mode))
			continue;
		target[length] = 0;
		if (!strncmp(target, directory(), strlen(directory())) &&
		    strstr(target, "(deleted)"))
			return fd;
	}
	return -1;
}

static void the_file_has_no_name_and_is_private(void **state)
{
	struct stat info;
	(void)state;

	assert_int_equal(fstat(find_store_file(), &info), 0);

	assert_int_equal(info.st_nlink, 0);
	assert_int_equal(info.st_mode & 0777, 0600);
}

static void a_flipped_bit_in_the_file_is_found(void **state)
{
	struct store *store = *state;
	store_location good = put_one(store, 1), bad = put_one(store, 2);
	uint8_t page[PAGE], byte;
	void *pages[] = {page};
	off_t offset = (off_t)bad * PAGE + 1234;
	assert_int_equal(pread(find_store_file(), &byte, 1, offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(find_store_file(), &byte, 1, offset), 1);

	assert_int_equal(store_get(store, &bad, 1, pages), -EBADMSG);
	assert_stored(store, good, 1);
}

static void a_truncated_file_is_found(void **state)
{
	struct store *store = *state;
	uint8_t page[PAGE];
	void *pages[] = {page};
	store_location location = put_one(store, 1);
	assert_int_equal(ftruncate(find_store_file(), 100), 0);

	assert_int_equal(store_get(store, &location, 1, pages), -EIO);
}

static void a_sync_leaves_the_entries_readable(void **state)
{
	struct store *store = *state;
	store_location location = put_one(store, 1);

	assert_int_equal(store_sync(store), 0);
	assert_int_equal(store_sync(store), 0);

	assert_stored(store, location, 1);
}

static void a_write_that_does_not_fit_says_so_and_keeps_the_rest(void **state)
{
	struct store *store = *state;
	struct rlimit before, limit;
	uint8_t page[PAGE];
	const void *pages[] = {page};
	store_location kept, location;
	size_t stored = 9;
	kept = put_one(store, 1);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = PAGE;
	setrlimit(RLIMIT_FSIZE, &limit);

	int result = store_put(store, pages, 1, &location, &stored);
	setrlimit(RLIMIT_FSIZE, &before);

	assert_int_equal(result, -EFBIG);
	assert_int_equal(stored, 0);
	assert_int_equal(store_live_bytes(store), PAGE);
	assert_stored(store, kept, 1);
	assert_stored(store, put_one(store, 2), 2);
}

#define with_store(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_store(what_was_put_is_got),
		with_store(a_batch_from_scattered_pages_is_kept_in_order),
		with_store(dropped_entries_give_their_space_back),
		with_store(a_reused_slot_keeps_its_new_contents),
		with_store(the_file_has_no_name_and_is_private),
		with_store(a_flipped_bit_in_the_file_is_found),
		with_store(a_truncated_file_is_found),
		with_store(a_sync_leaves_the_entries_readable),
		with_store(a_write_that_does_not_fit_says_so_and_keeps_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
