#include "tests/engine/vm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void note_done(void *opaque)
{
	((struct vm *)opaque)->done++;
}

static void note_fatal(void *opaque, const char *reason)
{
	struct vm *vm = opaque;

	print_message("fatal: %s\n", reason);
	snprintf(vm->reason, sizeof(vm->reason), "%s", reason);
	vm->fatal++;
}

void vm_create(struct vm *vm, size_t pages, struct store_config store)
{
	const struct swap_config config = {.store = store};
	const struct swap_callbacks callbacks = {vm, note_done, note_fatal};
	struct error err;

	memset(vm, 0, sizeof(*vm));
	vm->memory = create_memory(pages);
	vm->guest = guest_memory_guest_view(vm->memory);
	if (swap_create(vm->memory, &config, &callbacks, &vm->swap, &err))
		fail_msg("%s", err.text);
}

void vm_destroy(struct vm *vm)
{
	swap_destroy(vm->swap);
	guest_memory_destroy(vm->memory);
}

uint8_t *vm_page(const struct vm *vm, size_t page)
{
	return vm->guest + page * GUEST_PAGE_SIZE;
}

void vm_fill(struct vm *vm, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		fill_page(vm_page(vm, i), (uint32_t)i);
}

void vm_assert_holds(struct vm *vm, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		if (!page_holds(vm_page(vm, i), (uint32_t)i))
			fail_msg("page %zu has lost its contents", i);
}

static int run(struct vm *vm, enum swap_operation operation, struct error *err)
{
	int result = swap_start(vm->swap, operation, err);

	return result ? result : swap_wait(vm->swap, err);
}

int vm_run(struct vm *vm, enum swap_operation operation)
{
	return run(vm, operation, NULL);
}

void vm_operate(struct vm *vm, enum swap_operation operation)
{
	struct error err;

	if (run(vm, operation, &err))
		fail_msg("%s: %s", swap_operation_name(operation), err.text);
}

struct swap_status vm_status(const struct vm *vm)
{
	struct swap_status status;

	swap_get_status(vm->swap, &status);
	return status;
}
