/* Files are removed by path, or through the descriptor of their directory if there is one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/removal.h"

struct fixture {
	char directory[64];
	char file[96];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->directory, sizeof(f->directory), "/tmp/ebb-removal-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	snprintf(f->file, sizeof(f->file), "%s/file", f->directory);
	close(open(f->file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	removal_forget();
	unlink(f->file);
	rmdir(f->directory);
	free(f);
	return 0;
}

static void directories_are_what_paths_say(void **state)
{
	char directory[16];

	(void)state;
	removal_directory("name", directory, sizeof(directory));
	assert_string_equal(directory, ".");
	removal_directory("/name", directory, sizeof(directory));
	assert_string_equal(directory, "/");
	removal_directory("a/../b/name", directory, sizeof(directory));
	assert_string_equal(directory, "a/../b");
}

static void a_path_alone_will_do(void **state)
{
	struct fixture *f = *state;

	assert_false(removal_is_kept(f->file));
	assert_true(removal_is_allowed(f->file));
	assert_int_equal(removal_unlink(f->file), 0);
	assert_int_equal(access(f->file, F_OK), -1);
}

static void a_kept_directory_may_have_moved_away(void **state)
{
	struct fixture *f = *state;
	char moved[80];
	struct stat info;

	assert_int_equal(removal_keep(f->file, open(f->directory, O_PATH | O_CLOEXEC)), 0);
	snprintf(moved, sizeof(moved), "%s-moved", f->directory);
	assert_int_equal(rename(f->directory, moved), 0);
	assert_true(removal_is_kept(f->file));
	assert_true(removal_is_allowed(f->file));
	assert_int_equal(removal_lstat(f->file, &info), 0);
	assert_int_equal(removal_unlink(f->file), 0);
	assert_int_equal(removal_lstat(f->file, &info), -1);
	assert_int_equal(rename(moved, f->directory), 0);
}

static void other_directories_are_not_kept(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(removal_keep(f->file, open(f->directory, O_PATH | O_CLOEXEC)), 0);
	assert_true(removal_is_kept(f->file));
	assert_false(removal_is_kept("/tmp/file"));
	assert_false(removal_is_kept(f->directory));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(directories_are_what_paths_say, setup, teardown),
		cmocka_unit_test_setup_teardown(a_path_alone_will_do, setup, teardown),
		cmocka_unit_test_setup_teardown(a_kept_directory_may_have_moved_away, setup,
						teardown),
		cmocka_unit_test_setup_teardown(other_directories_are_not_kept, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
