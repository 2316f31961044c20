/*
 * Where each byte of guest memory is: the one division that metrics, history and report show.
 *
 * The states sum up to the guest's memory. Which of the swapped-out pages are in the pool and which on
 * the disk is known for whole segments of the store only, which also hold copies of pages that are
 * back in memory: the swapped-out pages are divided as the stored ones are.
 */
#ifndef EBB_VMM_MACHINE_MEMORY_STATES_H
#define EBB_VMM_MACHINE_MEMORY_STATES_H

#include <stdint.h>

enum memory_state {
	MEMORY_RESIDENT,  /* in RAM, and in use as far as is known */
	MEMORY_STAGED,    /* in RAM, not touched since `swap enable`, or being written */
	MEMORY_POOL,      /* compressed in ebb's memory, or one repeated value, which takes none */
	MEMORY_DISK,      /* in the store's file */
	MEMORY_EMPTY,     /* zero: never touched, or discarded */
	MEMORY_BALLOONED, /* empty because the guest's balloon has it */
	MEMORY_STATES,
};

struct machine_status;
struct swap_status;

void memory_states_divide(const struct machine_status *machine, const struct swap_status *swap,
			  uint64_t bytes[MEMORY_STATES]);

/* "resident", "staged", "pool", "disk", "empty", "ballooned" */
const char *memory_state_name(enum memory_state state);

#endif
