/*
 * Every operation is cancelled at every point of it that comes up: what was reached stays legal, no
 * page is lost, and the operation can be repeated to its end.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/engine/vm.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

enum {
	PAGES = 2048,
	STEPS = 6, /* times at which an operation is cancelled */
};

static void create(struct vm *vm, uint64_t pool_bytes)
{
	struct store_config store = test_store();

	store.pool_bytes = pool_bytes;
	vm_create(vm, PAGES, store);
	/* The last quarter is zeros, for trim. */
	vm_fill(vm, 0, PAGES / 4 * 3);
	memset(vm_page(vm, PAGES / 4 * 3), 0, PAGES / 4 * GUEST_PAGE_SIZE);
}

static void destroy(struct vm *vm)
{
	assert_int_equal(vm->fatal, 0);
	vm_destroy(vm);
}

/* Without waking it. */
static void assert_whole(struct vm *vm)
{
	struct guest_access access;
	uint8_t page[GUEST_PAGE_SIZE];

	swap_peek_access(vm->swap, &access);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(
			guest_access_read(&access, i * GUEST_PAGE_SIZE, page, sizeof(page)), 0);
		if (i < PAGES / 4 * 3 ? !page_holds(page, (uint32_t)i)
				      : page[0] || memcmp(page, page + 1, sizeof(page) - 1))
			fail_msg("page %zu has lost its contents", i);
	}
}

/* From behind, so that they are what is remembered, and not their neighbours. */
static void touch_some(struct vm *vm)
{
	for (size_t i = PAGES / 2; i > 0; i -= 8)
		assert_true(page_holds(vm_page(vm, i), (uint32_t)i));
}

static int start(struct vm *vm, enum swap_operation operation, struct error *err)
{
	if (operation == SWAP_OP_DUMP)
		return swap_start_dump(vm->swap, memfd_create("dump", MFD_CLOEXEC), err);
	return swap_start(vm->swap, operation, err);
}

/* Runs it to its end; how long that took. */
static uint64_t complete(struct vm *vm, enum swap_operation operation)
{
	uint64_t begin = clock_monotonic_ns();
	struct error err;

	if (start(vm, operation, &err) || swap_wait(vm->swap, &err))
		fail_msg("%s", err.text);
	return clock_monotonic_ns() - begin;
}

/* True: it was cancelled, rather than done before. */
static bool cancel_after(struct vm *vm, enum swap_operation operation, uint64_t delay_ns)
{
	enum swap_state before = vm_status(vm).state;
	struct swap_status status;
	struct error err;
	int result;

	if (start(vm, operation, &err))
		fail_msg("%s", err.text);
	if (delay_ns)
		usleep((useconds_t)(delay_ns / NS_PER_US));
	swap_cancel(vm->swap, NULL);
	result = swap_wait(vm->swap, NULL);
	assert_true(result == 0 || result == -ECANCELED);
	status = vm_status(vm);
	assert_int_equal(status.current.operation, operation);
	assert_false(status.current.running);
	assert_int_equal(status.current.cancelled, result == -ECANCELED);
	assert_int_equal(status.pages_writing, 0);
	/* Only a finished operation ends in its state; enable stages as far as it came. */
	if (result && operation != SWAP_OP_ENABLE)
		assert_int_equal(status.state, before);
	assert_whole(vm);
	return result != 0;
}

/* Brings the VM to where @operation makes sense. */
static void prepare(struct vm *vm, enum swap_operation operation)
{
	if (vm_status(vm).state != SWAP_DISABLED)
		complete(vm, SWAP_OP_DISABLE);
	if (operation == SWAP_OP_ENABLE)
		return;
	complete(vm, SWAP_OP_ENABLE);
	if (operation == SWAP_OP_TRIM || operation == SWAP_OP_OUT)
		return;
	complete(vm, SWAP_OP_OUT);
	if (operation != SWAP_OP_WORKING_SET)
		return;
	touch_some(vm);
	complete(vm, SWAP_OP_ENABLE);
	complete(vm, SWAP_OP_OUT);
}

static void cancel_everywhere(struct vm *vm, enum swap_operation operation)
{
	unsigned cancelled = 0;
	uint64_t whole;

	prepare(vm, operation);
	whole = complete(vm, operation);
	for (unsigned step = 0; step < STEPS; step++) {
		prepare(vm, operation);
		if (!cancel_after(vm, operation, whole * step / STEPS))
			continue;
		cancelled++;
		complete(vm, operation);
		assert_whole(vm);
	}
	print_message("%s: cancelled %u times of %u\n", swap_operation_name(operation), cancelled,
		      STEPS);
}

static void each_operation(uint64_t pool_bytes)
{
	static const enum swap_operation operations[] = {
		SWAP_OP_ENABLE,      SWAP_OP_TRIM,    SWAP_OP_OUT,  SWAP_OP_IN,
		SWAP_OP_WORKING_SET, SWAP_OP_DISABLE, SWAP_OP_DUMP, SWAP_OP_CHECKSUM,
	};
	struct vm vm;

	create(&vm, pool_bytes);
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		cancel_everywhere(&vm, operations[i]);
	prepare(&vm, SWAP_OP_ENABLE);
	assert_whole(&vm);
	destroy(&vm);
}

static void any_operation_can_be_cancelled_at_any_time(void **state)
{
	(void)state;

	each_operation(0);
}

static void any_operation_can_be_cancelled_at_any_time_with_a_pool(void **state)
{
	(void)state;

	each_operation(2 * MIB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_operation_can_be_cancelled_at_any_time),
		cmocka_unit_test(any_operation_can_be_cancelled_at_any_time_with_a_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
