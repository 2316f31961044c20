/* The store on hosts of all kinds: no io_uring, no O_TMPFILE, no O_DIRECT, a block device. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "swap/store_file.h"
#include "tests/unit/store_fixture.h"
#include "vmm/base/io.h"

#define COUNT 1200u

/* Puts, reads scattered and in one go, drops; 0 if all is as it must be. */
static int use(const struct store_config *config)
{
	static uint8_t back[STORE_BATCH_MAX][PAGE];
	static store_location locations[COUNT], scattered[STORE_BATCH_MAX];
	void *pages[STORE_BATCH_MAX];
	uint8_t expected[PAGE];
	struct store_reader *reader;
	struct store *store;
	int wrong = 0;

	if (store_create(config, &store, NULL))
		return 1;
	if (store_try_put(store, PAGE_RANDOM, 0, COUNT, locations))
		return 2;
	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++) {
		scattered[i] = locations[i * 7919 % COUNT];
		pages[i] = back[i];
	}
	if (store_reader_create(store, &reader))
		return 3;
	if (store_read(reader, scattered, STORE_BATCH_MAX, pages))
		return 4;
	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++) {
		store_page(expected, PAGE_RANDOM, i * 7919 % COUNT);
		wrong += memcmp(back[i], expected, PAGE) != 0;
	}
	if (store_read(reader, locations + 400, STORE_BATCH_MAX, pages))
		return 5;
	for (uint32_t i = 0; i < STORE_BATCH_MAX; i++) {
		store_page(expected, PAGE_RANDOM, 400 + i);
		wrong += memcmp(back[i], expected, PAGE) != 0;
	}
	store_reader_destroy(reader);
	store_drop_all(store, locations, COUNT);
	store_reclaim_all(store);
	if (wrong || store_usage(store).file_bytes || store_usage(store).entries)
		return 6;
	store_destroy(store);
	return 0;
}

static void threads_give_what_io_uring_gives(void **state)
{
	struct store_config config = store_test_config();
	(void)state;

	for (int encrypt = 0; encrypt <= 1; encrypt++) {
		config.encrypt = encrypt;
		config.io = STORE_IO_THREADS;
		assert_int_equal(use(&config), 0);
		config.io = STORE_IO_AUTO;
		assert_int_equal(use(&config), 0);
	}
}

static int use_without_io_uring(void)
{
	struct store_config config = store_test_config();
	struct store *store;
	struct error err;
	int result = use(&config);

	config.io = STORE_IO_URING;
	if (result == 0 && store_create(&config, &store, &err) != -EPERM)
		result = 20;
	return result;
}

static void a_host_that_refuses_io_uring_does(void **state)
{
	int result = store_run_without(SYS_io_uring_setup, 0, 0, EPERM, use_without_io_uring);
	(void)state;

	if (result < 0)
		skip();
	assert_int_equal(result, 0);
}

static int use_without_tmpfile(void)
{
	struct store_config config = store_test_config();
	struct store *store;
	struct stat info;

	if (store_check_path(config.path, NULL) || store_create(&config, &store, NULL))
		return 20;
	if (fstat(store_find_file(), &info) || info.st_nlink || (info.st_mode & 0777) != 0600)
		return 21;
	store_destroy(store);
	return use(&config);
}

static void a_file_system_without_nameless_files_does(void **state)
{
	int result = store_run_without(SYS_openat, 2, O_TMPFILE & ~O_DIRECTORY, EOPNOTSUPP,
				       use_without_tmpfile);
	(void)state;

	if (result < 0)
		skip();
	assert_int_equal(result, 0);
}

static int use_without_direct(void)
{
	struct store_config config = store_test_config();
	struct store *store;

	if (store_create(&config, &store, NULL))
		return 20;
	if (store_usage(store).direct)
		return 21;
	store_destroy(store);
	return use(&config);
}

static void a_file_system_without_direct_io_does(void **state)
{
	int result = store_run_without(SYS_fcntl, 2, O_DIRECT, EINVAL, use_without_direct);
	(void)state;

	if (result < 0)
		skip();
	assert_int_equal(result, 0);
}

int __real_sync_file_range(int fd, off_t offset, off_t length, unsigned flags);
int __wrap_sync_file_range(int fd, off_t offset, off_t length, unsigned flags);

static bool write_back_fails;

/* As the kernel does it: a write-back that failed is told to whoever waits first, and once. */
int __wrap_sync_file_range(int fd, off_t offset, off_t length, unsigned flags)
{
	if (write_back_fails && flags & SYNC_FILE_RANGE_WAIT_AFTER) {
		write_back_fails = false;
		errno = EIO;
		return -1;
	}
	return __real_sync_file_range(fd, offset, length, flags);
}

static int fail_one_of_two_parcels(void)
{
	struct store_config config = store_test_config();
	store_location location;
	struct store_writer *writer;
	struct store *store;
	unsigned parcels[2];
	uint8_t page[PAGE];

	if (store_create(&config, &store, NULL) || store_writer_create(store, &writer))
		return 20;
	store_page(page, PAGE_RANDOM, 1);
	for (size_t i = 0; i < 2; i++)
		if (store_append(writer, page, &location) || !store_seal(writer, &parcels[i]))
			return 21;
	write_back_fails = true;
	if (store_wait(writer, parcels[0]) != -EIO)
		return 22;
	/* It may have been this one's. */
	if (store_wait(writer, parcels[1]) != -EIO)
		return 23;
	store_writer_destroy(writer);
	store_put_one(store, PAGE_RANDOM, 2);
	store_destroy(store);
	return 0;
}

static void a_failed_write_back_counts_for_all_that_was_under_way(void **state)
{
	int result = store_run_without(SYS_fcntl, 2, O_DIRECT, EINVAL, fail_one_of_two_parcels);
	(void)state;

	if (result < 0)
		skip();
	assert_int_equal(result, 0);
}

int __real_ftruncate64(int fd, off_t length);
int __wrap_ftruncate64(int fd, off_t length);

static bool lengths_cannot_be_set;

int __wrap_ftruncate64(int fd, off_t length)
{
	if (lengths_cannot_be_set) {
		errno = EFBIG;
		return -1;
	}
	return __real_ftruncate64(fd, length);
}

/* Writes a block that ends at @end, as a writer does; 0 or -errno. */
static int write_block(struct store_file *file, uint64_t end)
{
	uint8_t *block = aligned_alloc(file->block, file->block);
	int result;

	assert_non_null(block);
	memset(block, 0xa5, file->block);
	store_file_extend(file, end);
	result = io_pwrite_full(file->fd, block, file->block, (off_t)(end - file->block));
	free(block);
	return result;
}

static void a_length_that_could_not_be_set_cuts_nothing_off_later(void **state)
{
	const uint64_t far = 600 * SEGMENT;
	struct store_file file;
	struct stat info;
	(void)state;
	assert_int_equal(store_file_open(store_directory(), &file, NULL), 0);
	lengths_cannot_be_set = true;
	assert_int_equal(write_block(&file, far), 0);
	lengths_cannot_be_set = false;

	assert_int_equal(write_block(&file, SEGMENT), 0);

	assert_int_equal(fstat(file.fd, &info), 0);
	assert_true((uint64_t)info.st_size >= far);
	store_file_close(&file);
}

static void what_writes_made_longer_is_given_back_too(void **state)
{
	struct store_file file;
	struct stat info;
	int fd;
	(void)state;
	assert_int_equal(store_file_reserve(store_directory(), &fd, NULL), 0);
	assert_int_equal(store_file_reopen(fd, store_directory(), &file, NULL), 0);
	lengths_cannot_be_set = true;
	assert_int_equal(write_block(&file, 600 * SEGMENT), 0);

	store_file_close(&file);
	lengths_cannot_be_set = false;

	assert_int_equal(fstat(fd, &info), 0);
	assert_int_equal(info.st_blocks, 0);
	close(fd);
}

/* Pages of the store's file that are in the page cache. */
static size_t cached_pages(size_t length)
{
	int fd = store_open_file();
	void *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
	unsigned char *in_core = calloc(1, length / PAGE);
	size_t count = 0;

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_non_null(in_core);
	assert_int_equal(mincore(map, length, in_core), 0);
	for (size_t i = 0; i < length / PAGE; i++)
		count += in_core[i] & 1;
	munmap(map, length);
	free(in_core);
	close(fd);
	return count;
}

static void the_page_cache_is_left_alone(void **state)
{
	struct store_config config = store_test_config();
	static store_location locations[17000];
	static uint8_t back[STORE_BATCH_MAX][PAGE];
	void *pages[STORE_BATCH_MAX];
	struct store_reader *reader;
	struct store *store;
	size_t length;
	(void)state;
	config.compression = STORE_COMPRESS_NONE;
	config.encrypt = false;
	store = store_make(&config);
	if (!store_usage(store).direct) {
		store_destroy(store);
		print_message("%s has no O_DIRECT\n", config.path);
		skip();
	}
	for (size_t i = 0; i < STORE_BATCH_MAX; i++)
		pages[i] = back[i];
	assert_int_equal(store_reader_create(store, &reader), 0);

	store_put(store, PAGE_RANDOM, 0, 17000, locations);
	for (size_t i = 0; i + STORE_BATCH_MAX <= 17000; i += STORE_BATCH_MAX)
		assert_int_equal(store_read(reader, locations + i, STORE_BATCH_MAX, pages), 0);

	length = 64 * SEGMENT;
	assert_true(cached_pages(length) < length / PAGE / 50);
	store_reader_destroy(reader);
	store_destroy(store);
}

/* A loop device of @size on a file that is gone when the device is; -1: cannot be made. */
static int make_loop(const char *dir, off_t size, char *path, size_t room)
{
	char backing[256];
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), number, file, loop;

	if (control < 0)
		return -1;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, room, "/dev/loop%d", number);
	snprintf(backing, sizeof(backing), "%s/ebb-loop-XXXXXX", dir);
	file = mkostemp(backing, O_CLOEXEC);
	if (number < 0 || file < 0)
		return -1;
	unlink(backing);
	loop = open(path, O_RDWR | O_CLOEXEC);
	if (ftruncate(file, size) || loop < 0 || ioctl(loop, LOOP_SET_FD, file)) {
		close(file);
		return -1;
	}
	close(file);
	return loop;
}

static void a_block_device_does(void **state)
{
	struct store_config config = store_test_config();
	static store_location locations[4000];
	struct error err = {""};
	struct store *store, *other;
	char path[64];
	int loop = make_loop(config.path, 8 * SEGMENT + 1000448, path, sizeof(path));
	(void)state;
	if (loop < 0) {
		print_message("no loop device to be had: %s\n", strerror(errno));
		skip();
	}
	config.path = path;

	assert_int_equal(store_check_path(path, &err), 0);
	assert_int_equal(use(&config), 0);
	store = store_make(&config);
	assert_int_equal(store_create(&config, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(store_try_put(store, PAGE_RANDOM, 0, 4000, locations), -ENOSPC);
	assert_int_equal(store_usage(store).file_bytes, 8 * SEGMENT);
	store_expect(store, locations[1500], PAGE_RANDOM, 1500);
	store_drop_all(store, locations, 4000);
	/* Without a reclaim: what is dead makes room. */
	store_put(store, PAGE_TEXT, 0, 100, locations);
	store_expect(store, locations[99], PAGE_TEXT, 99);
	store_reclaim_all(store);
	assert_int_equal(store_usage(store).file_bytes, SEGMENT);
	store_destroy(store);

	ioctl(loop, LOOP_CLR_FD, 0);
	close(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_give_what_io_uring_gives),
		cmocka_unit_test(a_host_that_refuses_io_uring_does),
		cmocka_unit_test(a_file_system_without_nameless_files_does),
		cmocka_unit_test(a_file_system_without_direct_io_does),
		cmocka_unit_test(a_failed_write_back_counts_for_all_that_was_under_way),
		cmocka_unit_test(a_length_that_could_not_be_set_cuts_nothing_off_later),
		cmocka_unit_test(what_writes_made_longer_is_given_back_too),
		cmocka_unit_test(the_page_cache_is_left_alone),
		cmocka_unit_test(a_block_device_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
