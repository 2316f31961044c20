/* The store: whatever becomes of its file, it never gives back what was not put. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/store_fixture.h"

static void a_flipped_bit_is_found_wherever(struct store_config config, enum page_kind kind)
{
	struct store *store = store_make(&config);
	store_location locations[2];
	uint8_t page[PAGE];
	int fd = store_open_file();
	uint64_t live;
	store_put(store, kind, 1, 2, locations);
	/* The records are the first thing in the file, one after the other. */
	live = store_usage(store).live_bytes;

	for (uint64_t at = 0; at < live; at += at < 40 ? 1 : 97) {
		uint8_t byte, changed;
		bool first = at < live / 2;

		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		changed = byte ^ (uint8_t)(1 << at % 8);
		assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
		assert_int_equal(store_read_one(store, locations[first ? 0 : 1], page), -EBADMSG);
		store_expect(store, locations[first ? 1 : 0], kind, first ? 2 : 1);
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	store_expect(store, locations[0], kind, 1);
	close(fd);
	store_destroy(store);
}

static void a_flipped_bit_is_found(void **state)
{
	struct store_config config = store_test_config();
	(void)state;

	for (int encrypt = 0; encrypt <= 1; encrypt++) {
		config.encrypt = encrypt;
		a_flipped_bit_is_found_wherever(config, PAGE_TEXT);
		a_flipped_bit_is_found_wherever(config, PAGE_RANDOM);
		config.compression = STORE_COMPRESS_ZSTD;
		a_flipped_bit_is_found_wherever(config, PAGE_TEXT);
		config.compression = STORE_COMPRESS_LZ4;
	}
}

static void an_old_segment_put_back_is_found(void **state)
{
	struct store_config config = store_test_config();
	(void)state;

	for (int encrypt = 0; encrypt <= 1; encrypt++) {
		struct store *store;
		store_location old, new;
		uint8_t before[2 * PAGE], after[2 * PAGE], page[PAGE];
		int fd;
		config.encrypt = encrypt;
		store = store_make(&config);
		fd = store_open_file();
		old = store_put_one(store, PAGE_RANDOM, 1);
		assert_int_equal(pread(fd, before, sizeof(before), 0), sizeof(before));
		store_drop(store, old);
		store_reclaim_all(store);
		/* The same page in the same place is another record nevertheless. */
		new = store_put_one(store, PAGE_RANDOM, 1);
		assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
		assert_int_equal(old, new);
		assert_true(memcmp(before, after, sizeof(before)));

		assert_int_equal(pwrite(fd, before, sizeof(before), 0), sizeof(before));
		assert_int_equal(store_read_one(store, new, page), -EBADMSG);

		assert_int_equal(pwrite(fd, after, sizeof(after), 0), sizeof(after));
		store_expect(store, new, PAGE_RANDOM, 1);
		close(fd);
		store_destroy(store);
	}
}

static void records_that_changed_places_are_found(void **state)
{
	struct store *store = *state;
	store_location locations[2];
	uint8_t records[2][PAGE + 16], page[PAGE];
	int fd = store_open_file();
	store_put(store, PAGE_RANDOM, 1, 2, locations);
	assert_int_equal(pread(fd, records, sizeof(records), 0), sizeof(records));

	assert_int_equal(pwrite(fd, records[1], sizeof(records[1]), 0), sizeof(records[1]));

	assert_int_equal(store_read_one(store, locations[0], page), -EBADMSG);
	close(fd);
}

static void a_truncated_file_is_found(void **state)
{
	struct store *store = *state;
	store_location locations[300];
	static uint8_t back[300][PAGE];
	void *pages[300];
	struct store_reader *reader;
	store_put(store, PAGE_RANDOM, 1, 300, locations);
	for (size_t i = 0; i < 300; i++)
		pages[i] = back[i];
	assert_int_equal(store_reader_create(store, &reader), 0);
	assert_int_equal(ftruncate(store_find_file(), 100), 0);

	assert_int_equal(store_read(reader, locations, 1, pages), -EBADMSG);
	assert_int_equal(store_read(reader, locations, 300, pages), -EBADMSG);
	assert_int_equal(store_read(reader, locations + 250, 2, pages), -EBADMSG);
	store_reader_destroy(reader);
}

static void the_file_does_not_show_what_is_in_it(void **state)
{
	struct store *store = *state;
	uint8_t page[PAGE];
	static uint8_t file[SEGMENT];
	store_location locations[8];
	int fd = store_open_file();
	ssize_t length;

	store_put(store, PAGE_RANDOM, 1, 4, locations);
	store_put(store, PAGE_TEXT, 1, 4, locations + 4);

	for (off_t segment = 0; segment < 2; segment++) {
		length = pread(fd, file, sizeof(file), segment * SEGMENT);
		assert_true(length > 0);
		assert_null(memmem(file, (size_t)length, "repetes ", 8));
		for (uint32_t i = 0; i < 4; i++) {
			store_page(page, PAGE_RANDOM, 1 + i);
			assert_null(memmem(file, (size_t)length, page, 16));
		}
	}
	close(fd);
}

static void the_same_page_is_never_sealed_alike(void **state)
{
	struct store *store = *state;
	static uint8_t tags[1000][16];
	int fd = store_open_file();

	for (size_t i = 0; i < 1000; i++) {
		store_location location = store_put_one(store, PAGE_RANDOM, 1);

		assert_int_equal(pread(fd, tags[i], 16, 0), 16);
		store_drop(store, location);
		store_reclaim_all(store);
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(tags[i], tags[j], 16);
	}
	close(fd);
}

static void the_file_has_no_name_and_is_private(void **state)
{
	struct stat info;
	(void)state;

	assert_int_equal(fstat(store_find_file(), &info), 0);

	assert_int_equal(info.st_nlink, 0);
	assert_int_equal(info.st_mode & 0777, 0600);
}

static int try_put_with_limit(struct store *store, size_t count, store_location locations[])
{
	struct rlimit before, limit;
	int result;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	limit = before;
	limit.rlim_cur = SEGMENT + 16 * PAGE;
	setrlimit(RLIMIT_FSIZE, &limit);
	result = store_try_put(store, PAGE_RANDOM, 1000, count, locations);
	setrlimit(RLIMIT_FSIZE, &before);
	return result;
}

static void a_write_that_fails_keeps_the_rest(void **state)
{
	struct store *store = *state;
	store_location kept = store_put_one(store, PAGE_RANDOM, 1), locations[600];
	uint64_t entries;

	assert_int_not_equal(try_put_with_limit(store, 600, locations), 0);

	entries = store_usage(store).entries;
	assert_true(entries < 600);
	store_expect(store, kept, PAGE_RANDOM, 1);
	store_drop_all(store, locations, 600);
	store_reclaim_all(store);
	assert_int_equal(store_usage(store).entries, 1);
	assert_in_range(store_usage(store).file_bytes, 1, 2 * PAGE);
	store_expect(store, store_put_one(store, PAGE_RANDOM, 2), PAGE_RANDOM, 2);
}

static void a_full_disk_keeps_the_rest(void **state)
{
	char dir[] = "/tmp/ebb-store-XXXXXX";
	struct store_config config = store_test_config();
	static store_location locations[2000];
	struct store *store;
	int result;
	(void)state;
	assert_non_null(mkdtemp(dir));
	if (mount("ebb-test", dir, "tmpfs", 0, "size=3m")) {
		rmdir(dir);
		print_message("cannot mount a tmpfs: %s\n", strerror(errno));
		skip();
	}
	config.path = dir;
	store = store_make(&config);
	store_put(store, PAGE_RANDOM, 0, 20, locations);

	result = store_try_put(store, PAGE_RANDOM, 20, 1980, locations + 20);

	assert_int_equal(result, -ENOSPC);
	for (uint32_t i = 0; i < 20; i++)
		store_expect(store, locations[i], PAGE_RANDOM, i);
	store_drop_all(store, locations + 20, 1980);
	store_reclaim_all(store);
	assert_int_equal(store_usage(store).entries, 20);
	store_put(store, PAGE_RANDOM, 0, 100, locations + 20);
	store_destroy(store);
	umount(dir);
	rmdir(dir);
}

#define with_store(test) cmocka_unit_test_setup_teardown(test, store_setup, store_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flipped_bit_is_found),
		cmocka_unit_test(an_old_segment_put_back_is_found),
		with_store(records_that_changed_places_are_found),
		with_store(a_truncated_file_is_found),
		with_store(the_file_does_not_show_what_is_in_it),
		with_store(the_same_page_is_never_sealed_alike),
		with_store(the_file_has_no_name_and_is_private),
		with_store(a_write_that_fails_keeps_the_rest),
		cmocka_unit_test(a_full_disk_keeps_the_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
