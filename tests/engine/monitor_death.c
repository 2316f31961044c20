/*
 * A monitor thread ends though nobody asked it to. Nothing is known to do that to one thread alone,
 * so it is done to it: by a signal whose handler ends the thread, in an orderly way or on the spot.
 */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/vm.h"

/* Not one of those that thread_start() blocks, or that the test library takes for itself. */
#define SIGNAL_END SIGTRAP

#define PAGES       1024u
#define THREADS_MAX 64

/* How a thread ends. */
enum way {
	ORDERLY,     /* pthread_exit(): what it has to clear up is cleared up */
	ON_THE_SPOT, /* nobody but the kernel learns of it */
};

static volatile sig_atomic_t way_to_end;

static void end_thread(int number)
{
	(void)number;
	if (way_to_end == ORDERLY)
		pthread_exit(NULL);
	syscall(SYS_exit, 0);
}

/* Half of the pages are out, the other half is staged. */
static int create(void **state)
{
	static struct vm vm;

	vm_create(&vm, PAGES, test_store());
	vm_fill(&vm, 0, PAGES / 2);
	vm_operate(&vm, SWAP_OP_ENABLE);
	vm_operate(&vm, SWAP_OP_OUT);
	vm_fill(&vm, PAGES / 2, PAGES);
	vm_operate(&vm, SWAP_OP_ENABLE);
	*state = &vm;
	return 0;
}

static int destroy(void **state)
{
	vm_destroy(*state);
	return 0;
}

/* A monitor thread that sleeps in its work: one that has just been made is not at work yet. */
static bool is_monitor(pid_t thread, bool *asleep)
{
	char path[64], text[256] = "", state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = 0;
	fclose(file);
	if (sscanf(text, "%*d (ebb-monitor) %c", &state) != 1)
		return false;
	*asleep = state == 'S';
	return true;
}

/* Their number; 0 if not all of them sleep. */
static size_t monitor_threads(pid_t *threads)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	bool asleep, all_asleep = true;
	size_t count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) && count < THREADS_MAX) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		if (thread <= 0 || !is_monitor(thread, &asleep))
			continue;
		threads[count++] = thread;
		all_asleep = all_asleep && asleep;
	}
	closedir(dir);
	return all_asleep ? count : 0;
}

/* Ends the monitor thread with that number, and waits until it is gone. */
static void end_monitor(size_t which, enum way way)
{
	pid_t threads[THREADS_MAX], left[THREADS_MAX];
	size_t count;

	await((count = monitor_threads(threads)) > 0);
	assert_in_range(which, 0, count - 1);
	way_to_end = way;
	assert_int_equal(syscall(SYS_tgkill, getpid(), threads[which], SIGNAL_END), 0);
	await(monitor_threads(left) == count - 1);
}

static void assert_served(struct vm *vm, size_t page)
{
	struct toucher out, staged;

	toucher_start(&out, vm_page(vm, page));
	toucher_start(&staged, vm_page(vm, PAGES / 2 + page));
	await(out.done && staged.done);
	toucher_join(&out);
	toucher_join(&staged);
	assert_true(page_holds(vm_page(vm, page), (uint32_t)page));
	assert_true(page_holds(vm_page(vm, PAGES / 2 + page), (uint32_t)(PAGES / 2 + page)));
}

static void end_all_but_one(struct vm *vm, enum way way)
{
	pid_t threads[THREADS_MAX];
	size_t count;

	await((count = monitor_threads(threads)) >= 2);
	for (size_t i = 0; i + 1 < count; i++) {
		/* Now the first, now the last. */
		end_monitor(i % 2 ? count - i - 1 : 0, way);
		assert_served(vm, 3 * i);
	}
}

static void a_monitor_thread_that_ends_is_told_at_once(void **state)
{
	struct vm *vm = *state;

	end_monitor(0, ORDERLY);

	await(vm->fatal > 0);
	assert_non_null(strstr(vm->reason, "a monitor thread has ended unexpectedly"));
	assert_served(vm, 7);
	vm_assert_holds(vm, 0, PAGES);
}

static void faults_are_answered_as_long_as_one_monitor_thread_is_left(void **state)
{
	struct vm *vm = *state;

	end_all_but_one(vm, ORDERLY);

	assert_true(vm->fatal > 0);
	vm_assert_holds(vm, 0, PAGES);
}

static void swap_can_be_disabled_after_monitor_threads_have_ended(void **state)
{
	struct vm *vm = *state;

	end_all_but_one(vm, ORDERLY);
	vm_operate(vm, SWAP_OP_DISABLE);

	assert_int_equal(vm_status(vm).state, SWAP_DISABLED);
	vm_assert_holds(vm, 0, PAGES);
	vm_operate(vm, SWAP_OP_ENABLE);
	vm_operate(vm, SWAP_OP_OUT);
	vm_assert_holds(vm, 0, PAGES);
}

/* Such a thread has no time to say anything: whoever takes over its watch does. */
static void a_monitor_thread_that_is_gone_without_a_word_is_missed(void **state)
{
	struct vm *vm = *state;

	end_all_but_one(vm, ON_THE_SPOT);

	await(vm->fatal > 0);
	assert_non_null(strstr(vm->reason, "a monitor thread has ended unexpectedly"));
	vm_assert_holds(vm, 0, PAGES);
	/* It never cleared up its stack: the kernel wakes whoever joins it all the same. */
	vm_operate(vm, SWAP_OP_DISABLE);
	vm_assert_holds(vm, 0, PAGES);
}

#define with_vm(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_vm(a_monitor_thread_that_ends_is_told_at_once),
		with_vm(faults_are_answered_as_long_as_one_monitor_thread_is_left),
		with_vm(swap_can_be_disabled_after_monitor_threads_have_ended),
		with_vm(a_monitor_thread_that_is_gone_without_a_word_is_missed),
	};
	const struct sigaction action = {.sa_handler = end_thread};

	sigaction(SIGNAL_END, &action, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
