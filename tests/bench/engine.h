/* The guest of bench_engine, and the cycles that it goes through. */
#ifndef EBB_BENCH_ENGINE_H
#define EBB_BENCH_ENGINE_H

#include "memory/guest_memory.h"
#include "swap/swap.h"
#include "tests/bench/contents.h"
#include "tests/bench/measure.h"

struct engine {
	const struct bench_options *options;
	struct contents *contents;
	struct guest_memory *memory;
	struct swap *swap;
	uint8_t *guest; /* the guest view */
	uint64_t pages;
	struct ledger ledger;
	json_t *result; /* what is printed in the end */
};

/*
 * Runs @operation to its end; stores how it went as @key of @parent. 0 or -errno: then the reason
 * is there as "error".
 */
int engine_operate(struct engine *engine, enum swap_operation operation, json_t *parent,
		   const char *key);

/* Sees that all memory is what it must be; ends the program if not. */
void engine_check_mapped(struct engine *engine, const char *when);  /* through the guest view */
void engine_check_present(struct engine *engine, const char *when); /* all pages are in the memfd */

/* Writes back and drops what the host caches of the store, so that reading it needs the disk. */
void engine_make_cold(struct engine *engine);

/*
 * The cycles; each begins and ends with swap disabled, and returns what it measured. 0 or -errno of
 * the operation that failed, with what came before it measured.
 */
int cycle_idle(struct engine *engine, json_t *result);
int cycle_faults(struct engine *engine, json_t *result);
int cycle_busy(struct engine *engine, json_t *result);

#endif
