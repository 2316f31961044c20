/*
 * A guest without KVM, its swap operated as the console does it: guest RAM with the whole of swap/
 * behind it, whose view threads of the test touch. The pages of a test that tells them apart by
 * number hold what fill_page() makes of it.
 */
#ifndef EBB_TESTS_ENGINE_VM_H
#define EBB_TESTS_ENGINE_VM_H

#include "swap/swap.h"
#include "tests/engine/fixture.h"

struct vm {
	struct guest_memory *memory;
	struct swap *swap;
	uint8_t *guest;    /* the guest view */
	_Atomic int done;  /* operations whose end was told */
	_Atomic int fatal; /* times that the engine could not go on */
	char reason[256];  /* the last time */
};

void vm_create(struct vm *vm, size_t pages, struct store_config store);
void vm_destroy(struct vm *vm);

uint8_t *vm_page(const struct vm *vm, size_t page);

/* Pages from @first to before @end. */
void vm_fill(struct vm *vm, size_t first, size_t end);
void vm_assert_holds(struct vm *vm, size_t first, size_t end);

/* Runs an operation to its end: its result. */
int vm_run(struct vm *vm, enum swap_operation operation);
/* Likewise; fails the test if the operation does. */
void vm_operate(struct vm *vm, enum swap_operation operation);

struct swap_status vm_status(const struct vm *vm);

#endif
