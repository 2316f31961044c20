/*
 * A machine and its swap that only remember what was asked of them, linked instead of the real
 * ones. The functions are called on the server's thread, the members below by the test: atomics.
 */
#ifndef EBB_TESTS_FAKE_MACHINE_H
#define EBB_TESTS_FAKE_MACHINE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "swap/swap.h"
#include "vmm/machine/machine.h"

struct fake_machine {
	atomic_int state; /* enum machine_state */
	atomic_int resets;
	atomic_bool panicked;
	atomic_ullong balloon_target;
	atomic_int swap_state; /* enum swap_state */
	atomic_int operation;  /* the running one, SWAP_OP_NONE: none */
	atomic_int starts;     /* of operations */
	atomic_int refusal;    /* what swap_start() returns */
	atomic_int result;     /* of the operation that ends next */
	atomic_bool cancelled;
	atomic_int last; /* the operation that ended last */
	atomic_int pages_swapped;
	atomic_int working_set; /* pages */
	atomic_ullong cpu_ns;   /* that the vCPUs have used */
};

extern struct fake_machine fake;

/* As after machine_start(), swap disabled. */
void fake_machine_init(void);

/* The worker is done. The test then lets the server be told. */
void fake_machine_finish(int result);

#endif
