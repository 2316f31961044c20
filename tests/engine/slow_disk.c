/* A disk that answers nothing for a while: who does not need it must not notice. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/io_gate.h"
#include "tests/engine/store_wrap.h"
#include "tests/engine/vm.h"
#include "vmm/base/clock.h"

enum {
	STRIDE = 20,    /* no two pages are brought along with each other */
	TOUCHERS = 400, /* more than the monitor has threads, and room to queue */
	STAGED = 64,    /* pages behind those, staged */
	EMPTY = 64,     /* and empty */
	SWAPPED = STRIDE * TOUCHERS,
	PAGES = SWAPPED + STAGED + EMPTY,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t goes_on = PTHREAD_COND_INITIALIZER;
static bool stands_still;
static int waiting;

static void hold_disk(void)
{
	pthread_mutex_lock(&lock);
	stands_still = true;
	waiting = 0;
	pthread_mutex_unlock(&lock);
}

static void release_disk(void)
{
	pthread_mutex_lock(&lock);
	stands_still = false;
	pthread_cond_broadcast(&goes_on);
	pthread_mutex_unlock(&lock);
}

static void wait_for_disk(void)
{
	pthread_mutex_lock(&lock);
	waiting++;
	while (stands_still)
		pthread_cond_wait(&goes_on, &lock);
	pthread_mutex_unlock(&lock);
}

static int readers_waiting(void)
{
	int count;

	pthread_mutex_lock(&lock);
	count = waiting;
	pthread_mutex_unlock(&lock);
	return count;
}

int __wrap_store_read(struct store_reader *reader, const store_location locations[], size_t count,
		      void *const pages[])
{
	wait_for_disk();
	return __real_store_read(reader, locations, count, pages);
}

int __wrap_store_read_finish(struct store_reader *reader, unsigned read, void *const pages[])
{
	wait_for_disk();
	return __real_store_read_finish(reader, read, pages);
}

static struct toucher touchers[TOUCHERS];

static int create(void **state)
{
	static struct vm vm;

	vm_create(&vm, PAGES, test_store());
	vm_fill(&vm, 0, SWAPPED);
	vm_operate(&vm, SWAP_OP_ENABLE);
	vm_operate(&vm, SWAP_OP_OUT);
	vm_fill(&vm, SWAPPED, SWAPPED + STAGED);
	vm_operate(&vm, SWAP_OP_ENABLE);
	*state = &vm;
	return 0;
}

static int destroy(void **state)
{
	release_disk();
	vm_destroy(*state);
	return 0;
}

static void touch_swapped(struct vm *vm)
{
	/* From behind, or they would look like one who goes in order. */
	for (size_t i = TOUCHERS; i-- > 0;)
		toucher_start(&touchers[i], vm_page(vm, i * STRIDE));
}

static void assert_touched(struct vm *vm)
{
	for (size_t i = 0; i < TOUCHERS; i++)
		toucher_join(&touchers[i]);
	for (size_t i = 0; i < SWAPPED; i += STRIDE)
		assert_true(page_holds(vm_page(vm, i), (uint32_t)i));
}

static void faults_that_need_no_disk_are_answered_while_many_wait_for_it(void **state)
{
	struct vm *vm = *state;

	hold_disk();
	touch_swapped(vm);
	await(readers_waiting() > 0);
	usleep(100000);

	for (size_t i = SWAPPED; i < PAGES; i++) {
		struct toucher toucher;

		toucher_start(&toucher, vm_page(vm, i));
		await(toucher.done);
		toucher_join(&toucher);
		assert_true(i < SWAPPED + STAGED ? page_holds(vm_page(vm, i), (uint32_t)i)
						 : toucher.value == 0);
	}

	release_disk();
	assert_touched(vm);
}

static void discards_are_served_while_many_wait_for_the_disk(void **state)
{
	struct vm *vm = *state;

	hold_disk();
	touch_swapped(vm);
	await(readers_waiting() > 0);
	/* Beside the pages that are waited for. */
	for (size_t i = 1; i < SWAPPED; i += STRIDE)
		assert_int_equal(
			guest_memory_discard(vm->memory, i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE), 0);

	release_disk();
	assert_touched(vm);
	for (size_t i = 1; i < SWAPPED; i += STRIDE)
		assert_int_equal(*vm_page(vm, i), 0);
	assert_int_equal(vm_status(vm).counters.removed, TOUCHERS);
}

static void bringing_in_from_a_disk_that_stands_still_can_be_cancelled(void **state)
{
	struct vm *vm = *state;

	hold_disk();
	assert_int_equal(swap_start(vm->swap, SWAP_OP_IN, NULL), 0);
	await(readers_waiting() > 0);
	assert_int_equal(swap_cancel(vm->swap, NULL), 0);
	assert_int_equal(*vm_page(vm, PAGES - 1), 0);
	release_disk();

	assert_int_equal(swap_wait(vm->swap, NULL), -ECANCELED);
	assert_true(vm_status(vm).pages_swapped > 0);
	vm_assert_holds(vm, 0, SWAPPED + STAGED);
	vm_operate(vm, SWAP_OP_DISABLE);
}

static bool is_closed(struct io_gate *gate)
{
	if (!io_gate_begin(gate))
		return true;
	io_gate_end(gate);
	return false;
}

/* Device I/O keeps enable waiting until it is cancelled; what it takes back then waits for the disk. */
static void start_taking_back(struct vm *vm, struct io_gate *gate)
{
	assert_true(io_gate_begin(gate));
	assert_int_equal(swap_start(vm->swap, SWAP_OP_ENABLE, NULL), 0);
	await(is_closed(gate));
	hold_disk();
	assert_int_equal(swap_cancel(vm->swap, NULL), 0);
	await(readers_waiting() > 0);
}

static void a_second_cancel_does_not_end_what_the_first_one_takes_back(void **state)
{
	struct vm *vm = *state;
	struct io_gate *gate = guest_memory_io_gate(vm->memory);
	struct error err;
	int result;

	start_taking_back(vm, gate);

	assert_int_equal(swap_cancel(vm->swap, NULL), 0);
	release_disk();
	result = swap_wait(vm->swap, &err);
	io_gate_end(gate);

	assert_int_equal(result, -ECANCELED);
	assert_non_null(strstr(err.text, "nothing is staged"));
	assert_int_equal(vm_status(vm).state, SWAP_RESIDENT);
	assert_int_equal(vm_status(vm).pages_swapped, 0);
	assert_int_equal(vm_status(vm).pages_staged, 0);
	vm_assert_holds(vm, 0, SWAPPED + STAGED);
}

/* The monitor's patience is 10 seconds. */
static bool comes_to_be_told(struct vm *vm)
{
	for (int i = 0; i < 600 && vm->fatal == 0; i++)
		usleep(100000);
	return vm->fatal > 0;
}

static void a_disk_that_hangs_is_told_and_goes_on_when_it_answers(void **state)
{
	struct vm *vm = *state;
	struct toucher toucher;
	bool told;

	hold_disk();
	toucher_start(&toucher, vm_page(vm, 0));
	await(swap_is_reading(vm->swap));
	assert_false(swap_in_trouble(vm->swap));

	told = comes_to_be_told(vm);

	assert_true(told);
	assert_non_null(strstr(vm->reason, "does not answer"));
	assert_true(swap_in_trouble(vm->swap));
	assert_false(toucher.done);
	release_disk();
	toucher_join(&toucher);
	await(!swap_in_trouble(vm->swap));
	assert_false(swap_is_reading(vm->swap));
	assert_int_equal(vm->fatal, 1);
	assert_true(page_holds(vm_page(vm, 0), 0));
}

static void a_worker_whose_disk_hangs_is_not_waited_for_without_end(void **state)
{
	struct vm *vm = *state;

	hold_disk();
	assert_int_equal(swap_start(vm->swap, SWAP_OP_IN, NULL), 0);
	await(readers_waiting() > 0);

	assert_false(swap_end_operation(vm->swap, 100 * NS_PER_MS));
	assert_false(swap_quit(vm->swap, 100 * NS_PER_MS));

	release_disk();
	assert_true(swap_quit(vm->swap, 60 * NS_PER_SEC));
	assert_int_equal(swap_wait(vm->swap, NULL), -ECANCELED);
}

static void what_goes_on_after_a_cancel_ends_with_the_machine(void **state)
{
	struct vm *vm = *state;
	struct io_gate *gate = guest_memory_io_gate(vm->memory);
	bool ended;
	int result;

	start_taking_back(vm, gate);

	ended = swap_end_operation(vm->swap, 0);
	release_disk();
	result = swap_wait(vm->swap, NULL);
	io_gate_end(gate);

	assert_false(ended);
	assert_int_equal(result, -ECANCELED);
	assert_true(vm_status(vm).pages_swapped > 0);
	vm_assert_holds(vm, 0, SWAPPED + STAGED);
	assert_int_equal(vm_run(vm, SWAP_OP_DISABLE), 0);
}

#define with_vm(test) cmocka_unit_test_setup_teardown(test, create, destroy)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_vm(faults_that_need_no_disk_are_answered_while_many_wait_for_it),
		with_vm(discards_are_served_while_many_wait_for_the_disk),
		with_vm(bringing_in_from_a_disk_that_stands_still_can_be_cancelled),
		with_vm(a_second_cancel_does_not_end_what_the_first_one_takes_back),
		with_vm(a_disk_that_hangs_is_told_and_goes_on_when_it_answers),
		with_vm(a_worker_whose_disk_hangs_is_not_waited_for_without_end),
		with_vm(what_goes_on_after_a_cancel_ends_with_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
