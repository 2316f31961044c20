/* The operations as the console offers them: legal orders, refusals, cancelling, failures. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/io_gate.h"
#include "tests/engine/vm.h"

#define PAGES 8192u

static void open_vm(struct vm *vm, const char *dir)
{
	vm_create(vm, PAGES, (struct store_config){.path = dir});
}

static int create(void **state)
{
	static struct vm vm;

	open_vm(&vm, test_store_dir());
	*state = &vm;
	return 0;
}

static int destroy(void **state)
{
	vm_destroy(*state);
	return 0;
}

static uint64_t allocated(struct vm *vm)
{
	uint64_t bytes;

	assert_int_equal(guest_memory_allocated(vm->memory, &bytes), 0);
	return bytes;
}

static void a_full_cycle_keeps_every_byte(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 2000);

	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
	assert_int_equal(vm_status(vm).state, SWAP_STAGED);
	assert_int_equal(vm_status(vm).pages_staged, 2000);
	assert_int_equal(vm_run(vm, SWAP_OP_TRIM), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);
	assert_int_equal(vm_status(vm).state, SWAP_OUT);
	assert_int_equal(vm_status(vm).pages_swapped, 2000);
	assert_int_equal(allocated(vm), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_IN), 0);
	assert_int_equal(vm_status(vm).state, SWAP_RESIDENT);
	assert_int_equal(vm_status(vm).pages_resident, 2000);
	assert_int_equal(vm_run(vm, SWAP_OP_DISABLE), 0);
	assert_int_equal(vm_status(vm).state, SWAP_DISABLED);
	assert_int_equal(vm_status(vm).store.file_bytes, 0);

	vm_assert_holds(vm, 0, 2000);
	await(vm->done == 5);
}

static void cycles_can_be_repeated_with_and_without_disabling(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 1000);

	for (int i = 0; i < 10; i++) {
		assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
		assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);
		vm_assert_holds(vm, 0, 500);
		if (i % 3 == 1)
			assert_int_equal(vm_run(vm, SWAP_OP_IN), 0);
		if (i % 3 == 2)
			assert_int_equal(vm_run(vm, SWAP_OP_DISABLE), 0);
	}

	vm_assert_holds(vm, 0, 1000);
}

static void disable_brings_swapped_memory_back_itself(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 1000);
	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);

	assert_int_equal(vm_run(vm, SWAP_OP_DISABLE), 0);

	assert_int_equal(allocated(vm), 1000 * GUEST_PAGE_SIZE);
	vm_assert_holds(vm, 0, 1000);
}

static void enabling_again_stages_what_was_touched(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 1000);
	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);
	/* Not in order, or neighbours would be brought along. */
	for (size_t i = 10; i-- > 0;)
		vm_assert_holds(vm, 2 * i, 2 * i + 1);

	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);

	assert_int_equal(vm_status(vm).pages_staged, 10);
	assert_int_equal(vm_status(vm).pages_swapped, 990);
	assert_int_equal(vm_run(vm, SWAP_OP_TRIM), 0);
	assert_int_equal(vm_status(vm).pages_swapped, 1000);
	assert_int_equal(vm_status(vm).counters.trimmed_clean, 10);
	vm_assert_holds(vm, 0, 1000);
}

static void assert_refused(struct vm *vm, enum swap_operation operation, const char *state_name)
{
	struct error err;

	assert_int_equal(swap_start(vm->swap, operation, &err), -EINVAL);
	assert_non_null(strstr(err.text, state_name));
}

static void commands_in_the_wrong_state_are_refused_naming_it(void **state)
{
	struct vm *vm = *state;

	assert_refused(vm, SWAP_OP_TRIM, "disabled");
	assert_refused(vm, SWAP_OP_OUT, "disabled");
	assert_refused(vm, SWAP_OP_IN, "disabled");
	assert_refused(vm, SWAP_OP_DISABLE, "disabled");
	vm_fill(vm, 0, 10);
	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);
	assert_refused(vm, SWAP_OP_TRIM, "out");
	assert_refused(vm, SWAP_OP_OUT, "out");
	assert_int_equal(vm_run(vm, SWAP_OP_IN), 0);
	assert_refused(vm, SWAP_OP_TRIM, "resident");
	assert_refused(vm, SWAP_OP_OUT, "resident");
	assert_refused(vm, SWAP_OP_IN, "resident");
}

static void without_a_directory_swap_says_which_option_is_missing(void **state)
{
	struct vm vm;
	struct error err;
	(void)state;
	open_vm(&vm, NULL);

	assert_int_equal(swap_start(vm.swap, SWAP_OP_ENABLE, &err), -ENOTSUP);

	assert_non_null(strstr(err.text, "--swap-dir"));
	assert_false(vm_status(&vm).available);
	vm_destroy(&vm);
}

static void enable_waits_for_pinned_device_io(void **state)
{
	struct vm *vm = *state;
	struct io_gate *gate = guest_memory_io_gate(vm->memory);
	vm_fill(vm, 0, 10);
	assert_true(io_gate_begin(gate));

	assert_int_equal(swap_start(vm->swap, SWAP_OP_ENABLE, NULL), 0);
	usleep(100000);
	assert_true(vm_status(vm).current.running);
	/* New I/O is held back meanwhile, memory can be touched. */
	assert_false(io_gate_begin(gate));
	vm_assert_holds(vm, 0, 10);

	io_gate_end(gate);
	assert_int_equal(swap_wait(vm->swap, NULL), 0);
	assert_true(io_gate_begin(gate));
	io_gate_end(gate);
}

static void enable_can_be_cancelled_while_it_waits_for_device_io(void **state)
{
	struct vm *vm = *state;
	struct io_gate *gate = guest_memory_io_gate(vm->memory);
	vm_fill(vm, 0, 100);
	assert_true(io_gate_begin(gate));
	assert_int_equal(swap_start(vm->swap, SWAP_OP_ENABLE, NULL), 0);
	usleep(20000);

	assert_int_equal(swap_cancel(vm->swap, NULL), 0);
	assert_int_equal(swap_wait(vm->swap, NULL), -ECANCELED);

	/* A page may still be pinned: nothing stays staged. */
	assert_int_equal(vm_status(vm).state, SWAP_DISABLED);
	assert_true(io_gate_begin(gate));
	io_gate_end(gate);
	io_gate_end(gate);
	vm_assert_holds(vm, 0, 100);
	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
}

static void a_second_operation_is_refused_while_one_runs(void **state)
{
	struct vm *vm = *state;
	struct io_gate *gate = guest_memory_io_gate(vm->memory);
	struct error err;
	assert_true(io_gate_begin(gate));
	assert_int_equal(swap_start(vm->swap, SWAP_OP_ENABLE, NULL), 0);

	assert_int_equal(swap_start(vm->swap, SWAP_OP_OUT, &err), -EBUSY);

	assert_non_null(strstr(err.text, "enable"));
	io_gate_end(gate);
	assert_int_equal(swap_wait(vm->swap, NULL), 0);
}

static void cancel_without_an_operation_is_refused(void **state)
{
	struct vm *vm = *state;
	struct error err;

	assert_int_equal(swap_cancel(vm->swap, &err), -EINVAL);
	assert_non_null(strstr(err.text, "disabled"));
}

/* Starts and cancels at once: whichever wins, nothing is lost and the operation can be repeated. */
static void cancelling_any_operation_leaves_every_page_valid(void **state)
{
	struct vm *vm = *state;
	static const enum swap_operation order[] = {SWAP_OP_ENABLE, SWAP_OP_TRIM, SWAP_OP_OUT,
						    SWAP_OP_IN, SWAP_OP_DISABLE};
	vm_fill(vm, 0, PAGES);

	for (int round = 0; round < 5; round++) {
		for (size_t i = 0; i < 5; i++) {
			assert_int_equal(swap_start(vm->swap, order[i], NULL), 0);
			usleep((useconds_t)(round * 1000));
			swap_cancel(vm->swap, NULL);
			int result = swap_wait(vm->swap, NULL);

			assert_true(result == 0 || result == -ECANCELED);
			assert_true(vm_status(vm).current.cancelled == (result == -ECANCELED));
			/* A sample only: touching everything would undo the operation. */
			vm_assert_holds(vm, (size_t)round * 16, (size_t)round * 16 + 16);
			if (result && order[i] != SWAP_OP_ENABLE)
				assert_int_equal(vm_run(vm, order[i]), 0);
			else if (result && vm_status(vm).state == SWAP_DISABLED)
				assert_int_equal(vm_run(vm, order[i]), 0);
		}
	}

	vm_assert_holds(vm, 0, PAGES);
}

static void a_full_disk_stops_out_cleanly(void **state)
{
	char dir[] = "/tmp/ebb-full-XXXXXX";
	struct vm vm;
	struct error err;
	(void)state;
	assert_non_null(mkdtemp(dir));
	if (mount("tmpfs", dir, "tmpfs", 0, "size=4m")) {
		rmdir(dir);
		print_message("SKIP: mounting a small tmpfs needs root\n");
		skip();
	}
	open_vm(&vm, dir);
	vm_fill(&vm, 0, 4000);
	assert_int_equal(vm_run(&vm, SWAP_OP_ENABLE), 0);

	assert_int_equal(swap_start(vm.swap, SWAP_OP_OUT, NULL), 0);
	assert_int_equal(swap_wait(vm.swap, &err), -ENOSPC);

	struct swap_status status = vm_status(&vm);
	assert_non_null(strstr(err.text, dir));
	assert_int_equal(status.state, SWAP_STAGED);
	assert_int_equal(status.pages_swapped + status.pages_staged, 4000);
	assert_true(status.pages_swapped > 500);
	vm_assert_holds(&vm, 0, 4000);
	assert_int_equal(vm_run(&vm, SWAP_OP_DISABLE), 0);
	vm_assert_holds(&vm, 0, 4000);
	vm_destroy(&vm);
	assert_int_equal(umount(dir), 0);
	rmdir(dir);
}

/*
 * A file system that promises more than its disk has, as on a thin volume: ext4 on a zram device that
 * may take much less memory than its size. (A loop device would not do: it calls short writes good.)
 */
static void a_disk_that_fails_behind_the_file_system_loses_nothing(void **state)
{
	char dir[] = "/tmp/ebb-thin-XXXXXX";
	char command[1024];
	struct vm vm;
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command),
		 "exec 2>/dev/null; cd %s && n=$(cat /sys/class/zram-control/hot_add) && "
		 "echo $n >number && echo 64M >/sys/block/zram$n/disksize && "
		 "echo 12M >/sys/block/zram$n/mem_limit && "
		 "mkfs.ext4 -q -O ^has_journal /dev/zram$n && mkdir fs && mount /dev/zram$n fs",
		 dir);
	bool mounted = system(command) == 0;
	if (mounted) {
		char fs[64];
		int result;

		snprintf(fs, sizeof(fs), "%s/fs", dir);
		open_vm(&vm, fs);
		vm_fill(&vm, 0, 6000);
		assert_int_equal(vm_run(&vm, SWAP_OP_ENABLE), 0);
		result = vm_run(&vm, SWAP_OP_OUT);
		assert_true(result == -EIO || result == -ENOSPC);
		assert_int_equal(vm_status(&vm).state, SWAP_STAGED);
		vm_assert_holds(&vm, 0, 6000);
		assert_int_equal(vm.fatal, 0);
		vm_destroy(&vm);
	}
	snprintf(command, sizeof(command),
		 "exec 2>/dev/null; cd %s && umount fs; n=$(cat number) && "
		 "echo 1 >/sys/block/zram$n/reset && echo $n >/sys/class/zram-control/hot_remove; "
		 "rm -rf %s",
		 dir, dir);
	assert_true(system(command) == 0 || !mounted);
	if (!mounted) {
		print_message("SKIP: a file system on zram needs root, zram and e2fsprogs\n");
		skip();
	}
}

static void expect_create_refused(const char *dir, int errnum, const char *words)
{
	const struct swap_config config = {.store.path = dir};
	struct guest_memory *memory = create_memory(16);
	struct swap *swap;
	struct error err;

	assert_int_equal(swap_create(memory, &config, NULL, &swap, &err), -errnum);
	assert_non_null(strstr(err.text, dir));
	assert_non_null(strstr(err.text, words));
	guest_memory_destroy(memory);
}

static void an_unusable_directory_is_refused_at_start(void **state)
{
	(void)state;

	expect_create_refused("/nonexistent/swap", ENOENT, "mkdir");
	expect_create_refused("/proc/self/status", ENOTDIR, "not a directory");
	/* Nobody makes files in procfs. */
	expect_create_refused("/proc/self/fd", ENOENT, "swap directory");
}

static void a_full_directory_is_refused_at_start(void **state)
{
	char dir[] = "/tmp/ebb-full-XXXXXX";
	(void)state;
	assert_non_null(mkdtemp(dir));
	if (mount("tmpfs", dir, "tmpfs", 0, "size=4k")) {
		rmdir(dir);
		print_message("SKIP: mounting a small tmpfs needs root\n");
		skip();
	}
	char path[64];
	snprintf(path, sizeof(path), "%s/filler", dir);
	FILE *filler = fopen(path, "w");
	assert_non_null(filler);
	assert_int_equal(fputc('x', filler), 'x');
	fclose(filler);

	expect_create_refused(dir, ENOSPC, "df -h");

	umount(dir);
	rmdir(dir);
}

static void peeking_through_the_access_interface_wakes_nothing(void **state)
{
	struct vm *vm = *state;
	struct guest_access access;
	uint8_t page[GUEST_PAGE_SIZE];
	vm_fill(vm, 0, 100);
	swap_peek_access(vm->swap, &access);
	/* Before enable, while out, and across page boundaries. */
	assert_int_equal(guest_access_read(&access, 7 * GUEST_PAGE_SIZE, page, sizeof(page)), 0);
	assert_true(page_holds(page, 7));
	assert_int_equal(vm_run(vm, SWAP_OP_ENABLE), 0);
	assert_int_equal(vm_run(vm, SWAP_OP_OUT), 0);

	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(guest_access_read(&access, i * GUEST_PAGE_SIZE, page, 100), 0);
		assert_int_equal(guest_access_read(&access, i * GUEST_PAGE_SIZE + 100, page + 100,
						   sizeof(page) - 100),
				 0);
		assert_true(page_holds(page, i));
	}

	assert_int_equal(vm_status(vm).pages_swapped, 100);
	assert_int_equal(allocated(vm), 0);
	assert_int_equal(guest_access_write(&access, 0, page, 1), -EFAULT);
	assert_int_equal(guest_access_read(&access, PAGES * GUEST_PAGE_SIZE - 1, page, 2), -EFAULT);
}

static void destroying_while_swapped_out_or_busy_is_clean(void **state)
{
	struct vm vm;
	(void)state;

	for (int delay = 0; delay < 5; delay++) {
		open_vm(&vm, test_store_dir());
		vm_fill(&vm, 0, PAGES);
		assert_int_equal(vm_run(&vm, SWAP_OP_ENABLE), 0);
		assert_int_equal(swap_start(vm.swap, SWAP_OP_OUT, NULL), 0);
		usleep((useconds_t)delay * 500);
		vm_destroy(&vm);
	}
}

static void status_reports_the_last_run_of_each_operation(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 100);
	vm_run(vm, SWAP_OP_ENABLE);
	vm_run(vm, SWAP_OP_OUT);

	struct swap_status status = vm_status(vm);

	assert_int_equal(status.last[SWAP_OP_ENABLE].operation, SWAP_OP_ENABLE);
	assert_int_equal(status.last[SWAP_OP_OUT].pages_moved, 100);
	assert_int_equal(status.last[SWAP_OP_OUT].pages_done, PAGES);
	assert_true(status.last[SWAP_OP_OUT].duration_ns > 0);
	assert_true(status.last[SWAP_OP_ENABLE].zap_ns > 0);
	assert_int_equal(status.last[SWAP_OP_IN].operation, SWAP_OP_NONE);
	assert_int_equal(status.pages_empty + status.pages_resident + status.pages_staged +
				 status.pages_writing + status.pages_swapped,
			 PAGES);
}

static void a_report_counts_only_what_its_own_operation_moved(void **state)
{
	struct vm *vm = *state;
	vm_fill(vm, 0, 100);
	vm_run(vm, SWAP_OP_ENABLE);
	vm_run(vm, SWAP_OP_OUT);
	vm_run(vm, SWAP_OP_DISABLE);
	assert_true(vm_status(vm).last[SWAP_OP_OUT].written_bytes > 0);
	assert_true(vm_status(vm).last[SWAP_OP_DISABLE].read_bytes > 0);

	vm_run(vm, SWAP_OP_CHECKSUM);
	vm_run(vm, SWAP_OP_ENABLE);

	assert_int_equal(vm_status(vm).last[SWAP_OP_CHECKSUM].written_bytes, 0);
	assert_int_equal(vm_status(vm).last[SWAP_OP_CHECKSUM].read_bytes, 0);
	assert_int_equal(vm_status(vm).last[SWAP_OP_ENABLE].written_bytes, 0);
}

static void who_answers_faults_has_the_priority_of_the_guest(void **state)
{
	DIR *tasks = opendir("/proc/self/task");
	size_t monitors = 0;
	struct dirent *task;
	assert_non_null(tasks);
	vm_run(*state, SWAP_OP_ENABLE);

	while ((task = readdir(tasks))) {
		char path[300], name[16] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		file = fopen(path, "re");
		if (file && fgets(name, sizeof(name), file) && !strcmp(name, "ebb-monitor\n")) {
			assert_int_equal(getpriority(PRIO_PROCESS, (id_t)atoi(task->d_name)),
					 getpriority(PRIO_PROCESS, 0));
			monitors++;
		}
		if (file)
			fclose(file);
	}
	closedir(tasks);
	assert_true(monitors > 0);
}

static void a_dump_that_was_never_begun_leaves_no_descriptor(void **state)
{
	(void)state;
	/* The worker may be faster: not every time. */
	for (int round = 0; round < 50; round++) {
		struct vm vm;
		int fd = memfd_create("dump", MFD_CLOEXEC);
		open_vm(&vm, test_store_dir());

		assert_int_equal(swap_start_dump(vm.swap, fd, NULL), 0);
		vm_destroy(&vm);

		assert_int_equal(fcntl(fd, F_GETFD), -1);
	}
}

int __real_close(int fd);
int __wrap_close(int fd);

static _Atomic int failing_close = -1;

/* As file systems do that write when a file is closed: it is closed all the same. */
int __wrap_close(int fd)
{
	int result = __real_close(fd);

	if (fd != failing_close)
		return result;
	errno = EDQUOT;
	return -1;
}

static void a_dump_that_fails_when_its_file_is_closed_has_failed(void **state)
{
	struct vm *vm = *state;
	int fd = memfd_create("dump", MFD_CLOEXEC);
	struct error err;
	int result;
	vm_fill(vm, 0, 10);
	failing_close = fd;

	assert_int_equal(swap_start_dump(vm->swap, fd, NULL), 0);
	result = swap_wait(vm->swap, &err);
	failing_close = -1;

	assert_int_equal(result, -EDQUOT);
	assert_non_null(strstr(err.text, "the file is incomplete"));
}

#define with_vm(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_vm(a_full_cycle_keeps_every_byte),
		with_vm(cycles_can_be_repeated_with_and_without_disabling),
		with_vm(disable_brings_swapped_memory_back_itself),
		with_vm(enabling_again_stages_what_was_touched),
		with_vm(commands_in_the_wrong_state_are_refused_naming_it),
		cmocka_unit_test(without_a_directory_swap_says_which_option_is_missing),
		with_vm(enable_waits_for_pinned_device_io),
		with_vm(enable_can_be_cancelled_while_it_waits_for_device_io),
		with_vm(a_second_operation_is_refused_while_one_runs),
		with_vm(cancel_without_an_operation_is_refused),
		with_vm(cancelling_any_operation_leaves_every_page_valid),
		cmocka_unit_test(a_full_disk_stops_out_cleanly),
		cmocka_unit_test(a_disk_that_fails_behind_the_file_system_loses_nothing),
		cmocka_unit_test(an_unusable_directory_is_refused_at_start),
		cmocka_unit_test(a_full_directory_is_refused_at_start),
		with_vm(peeking_through_the_access_interface_wakes_nothing),
		cmocka_unit_test(destroying_while_swapped_out_or_busy_is_clean),
		with_vm(status_reports_the_last_run_of_each_operation),
		with_vm(a_report_counts_only_what_its_own_operation_moved),
		with_vm(who_answers_faults_has_the_priority_of_the_guest),
		cmocka_unit_test(a_dump_that_was_never_begun_leaves_no_descriptor),
		with_vm(a_dump_that_fails_when_its_file_is_closed_has_failed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
