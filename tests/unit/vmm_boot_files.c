/* The kernel beside the disk: when it is taken, and when it is not. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/checked.h"
#include "vmm/base/log.h"
#include "vmm/machine/boot_files.h"

static const char *const names[] = {"d.raw", "d.img", "d.vmlinuz", "d.initrd", "d.cmdline"};

struct fixture {
	char folder[64];
	char disk[96];
	struct vm_config config;
	struct boot_files files;
	struct error err;
};

static void make(const struct fixture *f, const char *name, const char *text, size_t length)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, length), (ssize_t)length);
	close(fd);
}

/* A folder with the disk d.raw in it, and a configuration with no kernel. */
static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_set_level(LOG_LEVEL_ERROR);
	strcpy(f->folder, "/tmp/ebb-boot-XXXXXX");
	if (!mkdtemp(f->folder))
		return -1;
	make(f, "d.raw", "x", 1);
	snprintf(f->disk, sizeof(f->disk), "%s/d.raw", f->folder);
	f->config.disks[0].path = f->disk;
	f->config.disk_count = 1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", f->folder, names[i]);
		unlink(path);
	}
	rmdir(f->folder);
	boot_files_release(&f->files);
	free(f);
	return 0;
}

static void assert_path(const struct fixture *f, const char *path, const char *name)
{
	assert_non_null(path);
	assert_memory_equal(path, f->folder, strlen(f->folder));
	assert_string_equal(path + strlen(f->folder), name);
}

static void assert_fails(struct fixture *f, int errnum, const char *words)
{
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), -errnum);
	if (!strstr(f->err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", f->err.text, words);
	assert_null(f->config.kernel);
}

static void takes_what_lies_beside_the_disk(void **state)
{
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	make(f, "d.initrd", "i", 1);
	make(f, "d.cmdline", "root=/dev/vda ro\n", 17);
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), 0);
	assert_path(f, f->config.kernel, "/d.vmlinuz");
	assert_path(f, f->config.initrd, "/d.initrd");
	assert_string_equal(f->config.cmdline, "root=/dev/vda ro");
}

static void kernel_may_lie_there_alone(void **state)
{
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), 0);
	assert_path(f, f->config.kernel, "/d.vmlinuz");
	assert_null(f->config.initrd);
	assert_null(f->config.cmdline);
}

static void options_come_first(void **state)
{
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	make(f, "d.initrd", "i", 1);
	make(f, "d.cmdline", "quiet", 5);
	f->config.initrd = "mine";
	f->config.cmdline = "";
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), 0);
	assert_path(f, f->config.kernel, "/d.vmlinuz");
	assert_string_equal(f->config.initrd, "mine");
	assert_string_equal(f->config.cmdline, "");
}

static void kernel_given_by_an_option_stays_alone(void **state)
{
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	make(f, "d.initrd", "i", 1);
	f->config.kernel = "mine";
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), 0);
	assert_string_equal(f->config.kernel, "mine");
	assert_null(f->config.initrd);
}

static void no_kernel_there_says_where_it_would_be(void **state)
{
	assert_fails(*state, ENOENT, "/d.vmlinuz");
}

static void only_a_disk_called_raw_has_one(void **state)
{
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	make(f, "d.img", "x", 1);
	memcpy(f->disk + strlen(f->disk) - 3, "img", 3);
	assert_fails(f, ENOENT, "does not end in .raw");
}

static void missing_disk_is_named(void **state)
{
	struct fixture *f = *state;

	unlink(f->disk);
	assert_fails(f, ENOENT, "there is no such file");
}

static void no_disk_no_kernel(void **state)
{
	struct fixture *f = *state;

	f->config.disk_count = 0;
	assert_fails(f, ENOENT, "--kernel FILE");
}

static void command_line_is_one_line_of_text(void **state)
{
	static char big[5000];
	struct fixture *f = *state;

	make(f, "d.vmlinuz", "k", 1);
	make(f, "d.cmdline", "a\nb\n", 4);
	assert_fails(f, EINVAL, "one line");
	make(f, "d.cmdline", "a\0b", 3);
	assert_fails(f, EINVAL, "one line");
	memset(big, 'x', sizeof(big));
	make(f, "d.cmdline", big, sizeof(big));
	assert_fails(f, EINVAL, "one line");
	make(f, "d.cmdline", big, 4097);
	assert_fails(f, EINVAL, "one line");
	make(f, "d.cmdline", big, 4096);
	assert_int_equal(boot_files_find(&f->config, &f->files, &f->err), 0);
	assert_int_equal(strlen(f->config.cmdline), 4096);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(takes_what_lies_beside_the_disk),
		TEST(kernel_may_lie_there_alone),
		TEST(options_come_first),
		TEST(kernel_given_by_an_option_stays_alone),
		TEST(no_kernel_there_says_where_it_would_be),
		TEST(only_a_disk_called_raw_has_one),
		TEST(missing_disk_is_named),
		TEST(no_disk_no_kernel),
		TEST(command_line_is_one_line_of_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
