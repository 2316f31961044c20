/*
 * vmm-swap of one guest: the operations that the console offers, run by a worker thread.
 *
 * States (enum swap_state) and the commands that are legal in each:
 *
 *   disabled   enable
 *   staged     enable (stages again what was touched), trim, out, in, disable
 *   out        enable (stages what was touched since), in, disable
 *   resident   enable, disable          all memory is back, faults are still served by the monitor
 *
 * One operation runs at a time; while it runs, all commands but cancel are refused with -EBUSY. An
 * operation that fails or is cancelled leaves every page valid, in the state it had reached.
 *
 *   enable     marks resident pages STAGED and zaps the guest's page table entries; copies nothing
 *   trim       STAGED pages that are zero → EMPTY; unchanged since their stored copy → SWAPPED
 *   out        STAGED pages → store, punched out of the memfd
 *   in         everything back into guest RAM
 *   disable    in, then unregister, stop the monitor, give the disk space back
 *
 * Threads: any thread may call anything here but swap_create/destroy. No function touches guest RAM
 * through the guest view or waits for a vCPU. Callbacks come from the worker or the monitor thread
 * and must not call back into swap/ other than swap_get_status().
 */
#ifndef EBB_SWAP_SWAP_H
#define EBB_SWAP_SWAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/access.h"
#include "memory/guest_memory.h"
#include "vmm/base/error.h"

enum swap_state {
	SWAP_DISABLED,
	SWAP_STAGED,
	SWAP_OUT,
	SWAP_RESIDENT,
};

enum swap_operation {
	SWAP_OP_NONE,
	SWAP_OP_ENABLE,
	SWAP_OP_TRIM,
	SWAP_OP_OUT,
	SWAP_OP_IN,
	SWAP_OP_DISABLE,
	SWAP_OP_COUNT,
};

struct swap_config {
	/* Directory for the store file; NULL: swap commands are refused, saying --swap-dir. */
	const char *dir;
};

struct swap_callbacks {
	void *opaque;
	/* The running operation ended; swap_get_status() has its result. Worker thread. Optional.
	 */
	void (*operation_done)(void *opaque);
	/*
	 * Guest memory cannot be provided (the store cannot be read, the monitor cannot go on): the
	 * VM must stop running at once. @reason is for the operator. Monitor or worker thread,
	 * without locks. May be called more than once.
	 */
	void (*fatal)(void *opaque, const char *reason);
};

/* Faults answered since enable, by what they needed. */
struct swap_counters {
	uint64_t faults_zeroed;    /* EMPTY: zero page */
	uint64_t faults_continued; /* STAGED or RESIDENT: mapped, nothing copied */
	uint64_t faults_copied;    /* SWAPPED: read from the store */
	uint64_t faults_redundant; /* another fault had filled the page already */
	uint64_t faults_retried;   /* EAGAIN from the kernel, answered later */
	uint64_t writes_cancelled; /* pages touched while they were being written out */
	uint64_t removed;    /* pages that the guest gave back (balloon, free page reporting) */
	uint64_t staged;     /* pages staged, all cycles together */
	uint64_t stored;     /* pages written to the store */
	uint64_t swapped_in; /* pages brought back by in or disable */
	uint64_t trimmed_zero;
	uint64_t trimmed_clean;
};

struct swap_operation_report {
	enum swap_operation operation; /* SWAP_OP_NONE: none has run yet */
	bool running;
	bool cancelled;
	int result;           /* 0 or -errno; 0 while running */
	struct error error;   /* text of a failure */
	uint64_t pages_done;  /* pages looked at */
	uint64_t pages_total; /* pages to look at */
	uint64_t pages_moved; /* staged, dropped, written or brought back */
	uint64_t duration_ns; /* so far, or in all */
	uint64_t zap_ns;      /* enable: time of the zap alone */
};

struct swap_status {
	enum swap_state state;
	bool available; /* a swap directory was given */
	uint64_t page_size;
	uint64_t pages_total;
	uint64_t pages_empty; /* the five sum up to pages_total while swap is enabled; else all zero
			       */
	uint64_t pages_resident;
	uint64_t pages_staged;
	uint64_t pages_writing;
	uint64_t pages_swapped;
	uint64_t store_live_bytes; /* bytes of entries in use */
	uint64_t store_disk_bytes; /* blocks that the file occupies */
	struct swap_counters counters;
	struct swap_operation_report current; /* the running operation, else the last one */
	/* The last finished run of each operation; .operation is SWAP_OP_NONE if it never ran. */
	struct swap_operation_report last[SWAP_OP_COUNT];
};

struct swap;

/*
 * Prepares swap for @memory (which must outlive it) and starts the worker; touches neither guest
 * memory nor disk, except that @config->dir, if given, is checked for being usable.
 */
int swap_create(const struct guest_memory *memory, const struct swap_config *config,
		const struct swap_callbacks *callbacks, struct swap **out, struct error *err);

/*
 * Stops the worker and the monitor and drops the store. NULL is legal. The guest must not run and
 * nothing may touch the guest view any more: its contents are gone.
 */
void swap_destroy(struct swap *swap);

/*
 * Starts @operation and returns at once: 0, -EBUSY (one is running), -EINVAL (wrong state; @err
 * names it), -ENOTSUP (no swap directory).
 */
int swap_start(struct swap *swap, enum swap_operation operation, struct error *err);

/* Asks the running operation to end early. 0, or -EINVAL if none runs. Does not wait. */
int swap_cancel(struct swap *swap, struct error *err);

/*
 * True from the call of fatal() until all memory that was asked for has been provided: until then
 * some thread sleeps in guest memory, and running the guest on makes no sense.
 */
bool swap_in_trouble(struct swap *swap);

/* Sleeps until no operation runs. Returns the last one's result, its text in @err. */
int swap_wait(struct swap *swap, struct error *err);

void swap_get_status(struct swap *swap, struct swap_status *status);

const char *swap_state_name(enum swap_state state);
const char *swap_operation_name(enum swap_operation operation);

/*
 * An accessor that reads guest RAM by memfd offset without waking anything: swapped-out pages come
 * from the store and stay out. Reads only. Valid until swap_destroy().
 */
void swap_peek_access(struct swap *swap, struct guest_access *access);

#endif
