/* Disks: what block_open() takes, what it refuses, and what it says then. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/block.h"

struct fixture {
	char folder[64];
	char path[96];
	struct error err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->folder, "/tmp/ebb-block-XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/disk", f->folder);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->path);
	rmdir(f->path);
	rmdir(f->folder);
	free(f);
	return 0;
}

static void make_disk(const struct fixture *f, off_t size)
{
	int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void assert_refused(struct fixture *f, bool read_only, int errnum, const char *words)
{
	struct block *block = (struct block *)f;

	assert_int_equal(block_open(f->path, read_only, NULL, &block, &f->err), -errnum);
	assert_ptr_equal(block, f);
	assert_non_null(strstr(f->err.text, f->path));
	assert_non_null(strstr(f->err.text, words));
}

static struct block *open_disk(struct fixture *f, bool read_only, const char *id)
{
	struct block *block = NULL;

	assert_int_equal(block_open(f->path, read_only, id, &block, &f->err), 0);
	return block;
}

static void opens_a_file(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 1 << 20);
	block = open_disk(f, false, "disk-7");
	assert_int_equal(block_size(block), 1 << 20);
	assert_false(block_is_read_only(block));
	assert_false(block_is_device(block));
	assert_string_equal(block_id(block), "disk-7");
	assert_string_equal(block_path(block), f->path);
	assert_true(fcntl(block_fd(block), F_GETFD) & FD_CLOEXEC);
	assert_false(fcntl(block_fd(block), F_GETFL) & O_NONBLOCK);
	block_close(block);
}

static void id_defaults_to_the_file_name(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 512);
	block = open_disk(f, false, "");
	assert_string_equal(block_id(block), "disk");
	block_close(block);
}

static void long_id_is_cut(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 512);
	block = open_disk(f, false, "123456789012345678901234567890");
	assert_string_equal(block_id(block), "12345678901234567890");
	block_close(block);
}

static void refuses_a_missing_file(void **state)
{
	assert_refused(*state, false, ENOENT, "truncate");
}

static void refuses_a_directory(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_refused(f, false, EISDIR, "directory");
	assert_refused(f, true, EISDIR, "directory");
}

static void refuses_an_empty_file(void **state)
{
	make_disk(*state, 0);
	assert_refused(*state, false, EINVAL, "empty");
}

static void refuses_an_odd_size(void **state)
{
	make_disk(*state, 1000);
	assert_refused(*state, false, EINVAL, "512");
}

static void refuses_a_fifo_without_hanging(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkfifo(f->path, 0600), 0);
	assert_refused(f, true, EINVAL, "neither");
}

static void refuses_a_character_device(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(symlink("/dev/null", f->path), 0);
	assert_refused(f, false, EINVAL, "neither");
}

static void refuses_a_file_it_may_not_write(void **state)
{
	struct fixture *f = *state;
	uid_t user = geteuid();

	make_disk(f, 512);
	assert_int_equal(chmod(f->path, 0444), 0);
	assert_int_equal(chmod(f->folder, 0755), 0);
	if (user == 0) /* root may write every file */
		assert_int_equal(seteuid(65534), 0);
	assert_refused(f, false, EACCES, ",ro");
	block_close(open_disk(f, true, NULL));
	assert_int_equal(seteuid(user), 0);
}

static void refuses_a_second_writer(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 512);
	block = open_disk(f, false, NULL);
	assert_refused(f, false, EBUSY, "in use");
	block_close(block);
}

static void refuses_a_reader_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 512);
	block = open_disk(f, false, NULL);
	assert_refused(f, true, EBUSY, "in use");
	block_close(block);
}

static void refuses_a_writer_beside_a_reader(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	make_disk(f, 512);
	block = open_disk(f, true, NULL);
	assert_refused(f, false, EBUSY, "in use");
	block_close(block);
}

static void lets_readers_share(void **state)
{
	struct fixture *f = *state;
	struct block *first;
	struct block *second;

	make_disk(f, 512);
	first = open_disk(f, true, NULL);
	second = open_disk(f, true, NULL);
	assert_true(block_is_read_only(second));
	block_close(first);
	block_close(second);
}

static void closing_gives_the_lock_up(void **state)
{
	struct fixture *f = *state;

	make_disk(f, 512);
	block_close(open_disk(f, false, NULL));
	block_close(open_disk(f, false, NULL));
}

static void closing_null_is_legal(void **state)
{
	(void)state;
	block_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(opens_a_file),
		TEST(id_defaults_to_the_file_name),
		TEST(long_id_is_cut),
		TEST(refuses_a_missing_file),
		TEST(refuses_a_directory),
		TEST(refuses_an_empty_file),
		TEST(refuses_an_odd_size),
		TEST(refuses_a_fifo_without_hanging),
		TEST(refuses_a_character_device),
		TEST(refuses_a_file_it_may_not_write),
		TEST(refuses_a_second_writer),
		TEST(refuses_a_reader_beside_a_writer),
		TEST(refuses_a_writer_beside_a_reader),
		TEST(lets_readers_share),
		TEST(closing_gives_the_lock_up),
		TEST(closing_null_is_legal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
