/* Which files are refused as images of other formats, and that content alone refuses none. */
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

#include "devices/block_format.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"

static char folder[] = "/tmp/ebb-format-XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	log_set_level(LOG_LEVEL_ERROR);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder);
}

/* Checks a file called @name of @size bytes with @magic at @offset. */
static int check(const char *name, const char *magic, size_t length, off_t offset, off_t size,
		 struct error *err)
{
	char path[128];
	int result;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(pwrite(fd, magic, length, offset), (ssize_t)length);
	close(fd);
	result = block_format_check(path, err);
	unlink(path);
	return result;
}

static void image_that_is_named_so_is_refused_with_the_command(void **state)
{
	static const struct {
		const char *name;
		const char *magic;
		size_t length;
		off_t offset;
		const char *command;
	} images[] = {
		{"a.qcow2", "QFI\xfb", 4, 0, "qemu-img convert -f qcow2 -O raw "},
		{"a.QCOW2", "QFI\xfb", 4, 0, "qemu-img convert -f qcow2 -O raw "},
		{"a.vmdk", "KDMV", 4, 0, "qemu-img convert -f vmdk -O raw "},
		{"a.vmdk", "# Disk DescriptorFile", 21, 0, "qemu-img convert -f vmdk -O raw "},
		{"a.vdi", "\x7f\x10\xda\xbe", 4, 64, "qemu-img convert -f vdi -O raw "},
		{"a.vhdx", "vhdxfile", 8, 0, "qemu-img convert -f vhdx -O raw "},
		{"a.vhd", "conectix", 8, 0, "qemu-img convert -f vpc -O raw "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
		struct error err = {0};

		assert_int_equal(check(images[i].name, images[i].magic, images[i].length,
				       images[i].offset, 4096, &err),
				 -EINVAL);
		assert_non_null(strstr(err.text, images[i].command));
		assert_non_null(strstr(err.text, "/a.raw"));
	}
}

static void content_alone_refuses_nothing(void **state)
{
	static const char *const names[] = {"a.raw", "a.img",  "a",
					    "qcow2", "a.vmdk", "a.qcow2.raw"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(check(names[i], "QFI\xfb", 4, 0, 4096, NULL), 0);
}

static void name_alone_refuses_nothing(void **state)
{
	(void)state;
	assert_int_equal(check("a.qcow2", "QFI", 3, 0, 4096, NULL), 0);
	assert_int_equal(check("a.qcow2", "QFI\xfb", 4, 512, 4096, NULL), 0);
	assert_int_equal(check("a.vdi", "", 0, 0, 4096, NULL), 0);
}

static void what_is_short_or_missing_is_for_others_to_refuse(void **state)
{
	(void)state;
	assert_int_equal(check("a.qcow2", "QFI\xfb", 4, 0, 511, NULL), 0);
	assert_int_equal(check("a.qcow2", "", 0, 0, 0, NULL), 0);
	assert_int_equal(block_format_check("/no/such/a.qcow2", NULL), 0);
	assert_int_equal(block_format_check("/", NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(image_that_is_named_so_is_refused_with_the_command),
		cmocka_unit_test(content_alone_refuses_nothing),
		cmocka_unit_test(name_alone_refuses_nothing),
		cmocka_unit_test(what_is_short_or_missing_is_for_others_to_refuse),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
