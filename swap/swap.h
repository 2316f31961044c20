/*
 * vmm-swap of one guest: the operations that the console offers, run by a worker thread.
 *
 * States (enum swap_state) and the commands that are legal in each:
 *
 *   disabled   enable
 *   staged     enable (stages again what was touched), trim, out, in, working set, disable
 *   out        enable (stages what was touched since), in, working set, disable
 *   resident   enable, disable          all memory is back, faults are still served by the monitor
 *
 * One operation runs at a time; while it runs, all commands but cancel are refused with -EBUSY. An
 * operation that fails or is cancelled leaves every page valid, in the state it had reached.
 *
 *   enable     marks resident pages STAGED and zaps the guest's page table entries; copies nothing
 *   trim       STAGED pages that are zero → EMPTY; unchanged since their stored copy → SWAPPED
 *   out        STAGED pages → store, punched out of the memfd
 *   in         everything back into guest RAM
 *   working set  the pages that were touched first after recent wake-ups, in that order
 *   disable    in, then unregister, stop the monitor, give the disk space back
 *   dump, checksum  read all of guest RAM, in any state, and leave every page where it is
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
#include "swap/latency.h"
#include "swap/store_config.h"
#include "swap/swap_map.h"
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
	SWAP_OP_WORKING_SET, /* `swap in --working-set` */
	SWAP_OP_DISABLE,
	SWAP_OP_DUMP,     /* `dump-memory`; by swap_start_dump() */
	SWAP_OP_CHECKSUM, /* `checksum-memory` */
	SWAP_OP_COUNT,
};

struct swap_config {
	/*
	 * Without a path and without a pool, swap commands are refused, saying --swap-dir; dump and
	 * checksum are not.
	 */
	struct store_config store;
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
	uint64_t faults_ahead;     /* pages brought along for touchers that go in order */
	uint64_t faults_redundant; /* another fault had filled the page already */
	uint64_t faults_retried;   /* EAGAIN from the kernel, answered later */
	uint64_t writes_cancelled; /* pages touched while they were being written out */
	uint64_t removed;    /* pages that the guest gave back (balloon, free page reporting) */
	uint64_t staged;     /* pages staged, all cycles together */
	uint64_t stored;     /* pages written to the store */
	uint64_t swapped_in; /* pages brought back by in or disable */
	uint64_t trimmed_zero;
	uint64_t trimmed_clean; /* unchanged since they were stored: written not again */
	uint64_t compacted;     /* pages moved within the store */
};

/* How a fault was answered. */
enum swap_fault_kind {
	SWAP_FAULT_ZERO,   /* a zero page */
	SWAP_FAULT_STAGED, /* it was in the memfd */
	SWAP_FAULT_POOL,   /* from the store, without touching the disk */
	SWAP_FAULT_FILE,   /* from the store's file */
	SWAP_FAULT_KINDS,
};

/* "sha256:" is not part of it. */
#define SWAP_DIGEST_SIZE 65

struct swap_operation_report {
	enum swap_operation operation; /* SWAP_OP_NONE: none has run yet */
	bool running;
	bool cancelled;
	int result;                    /* 0 or -errno; 0 while running */
	struct error error;            /* text of a failure */
	uint64_t pages_done;           /* pages looked at */
	uint64_t pages_total;          /* pages to look at */
	uint64_t pages_moved;          /* staged, dropped, written or brought back */
	uint64_t started_ns;           /* CLOCK_MONOTONIC */
	uint64_t duration_ns;          /* so far, or in all */
	uint64_t zap_ns;               /* enable: time of the zap alone */
	uint64_t written_bytes;        /* to the store's file while it ran */
	uint64_t read_bytes;           /* from it */
	char digest[SWAP_DIGEST_SIZE]; /* checksum: SHA-256 of guest RAM in hexadecimal digits */
};

/* How often an operation ended in which way since the VM started. */
struct swap_operation_totals {
	uint64_t done;
	uint64_t failed;
	uint64_t cancelled;
	uint64_t duration_ns; /* of all of them */
};

/* Bytes that stores have moved since the VM started. */
struct swap_traffic {
	uint64_t written; /* to the file */
	uint64_t read;    /* from it */
	uint64_t evicted; /* from the pool to the file */
};

struct swap_status {
	enum swap_state state;
	bool available; /* there is a place for a store: a swap directory, or a pool */
	uint64_t page_size;
	uint64_t pages_total;
	uint64_t pages_empty; /* the five sum up to pages_total while swap is enabled; else all zero
			       */
	uint64_t pages_resident;
	uint64_t pages_staged;
	uint64_t pages_writing;
	uint64_t pages_swapped;
	struct store_usage store;         /* all zero while swap is disabled */
	struct store_config store_config; /* .path belongs to the swap object */
	uint64_t tables_bytes;            /* RAM for page tables: states, locations and hashes */
	uint64_t working_set_pages;       /* remembered for `swap in --working-set` */
	struct swap_counters counters;
	/* Of all faults since the VM started: from reading a fault to having answered it. */
	struct latency_summary latency[SWAP_FAULT_KINDS];
	struct swap_operation_report current; /* the running operation, else the last one */
	/* The last finished run of each operation; .operation is SWAP_OP_NONE if it never ran. */
	struct swap_operation_report last[SWAP_OP_COUNT];
	struct swap_operation_totals totals[SWAP_OP_COUNT];
	struct swap_traffic traffic;
};

struct swap;

/*
 * Prepares swap for @memory (which must outlive it) and starts the worker; touches neither guest
 * memory nor disk, except that the store's path, if given, is checked for being usable.
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

/*
 * Starts SWAP_OP_DUMP: writes all of guest RAM to @fd, an empty regular file, at its memfd offsets;
 * zero pages become holes. The descriptor is the operation's from here on (also on failure, when it
 * is closed). Results as swap_start().
 */
int swap_start_dump(struct swap *swap, int fd, struct error *err);

/* Asks the running operation to end early. 0, or -EINVAL if none runs. Does not wait. */
int swap_cancel(struct swap *swap, struct error *err);

/*
 * Ends the running operation, also where cancel lets it go on, and waits for that. False: it has not
 * ended after @patience_ns, because the disk does not answer.
 */
bool swap_end_operation(struct swap *swap, uint64_t patience_ns);

/*
 * The same for whatever the worker does, and for good: what is requested from now on is not begun.
 * False: swap_destroy() may wait for ever.
 */
bool swap_quit(struct swap *swap, uint64_t patience_ns);

/*
 * True while a fault waits for the disk. If that does not answer, fatal() says so after some seconds;
 * until it does, swap_destroy() would wait, and so would who waits for the fault.
 */
bool swap_is_reading(struct swap *swap);

/*
 * True from the call of fatal() until all memory that was asked for has been provided: until then
 * some thread sleeps in guest memory, and running the guest on makes no sense.
 */
bool swap_in_trouble(struct swap *swap);

/* Sleeps until no operation runs. Returns the last one's result, its text in @err. */
int swap_wait(struct swap *swap, struct error *err);

void swap_get_status(struct swap *swap, struct swap_status *status);

/* The whole histogram behind swap_status.latency[kind], for each kind. */
void swap_get_latency(struct swap *swap, struct latency_snapshot snapshots[SWAP_FAULT_KINDS]);

/* How many pages each cell of a map has if guest RAM is divided into @cells (not 0) or fewer. */
uint64_t swap_map_cell_pages(const struct swap *swap, size_t cells);

/*
 * Where guest RAM is now, by memfd offset: a cell for each @cell_pages pages, the last one may have
 * fewer. At most @max cells are filled in; returns how many. While pages move, cells are of slightly
 * different moments. *exact is false for a large guest: then the division of swapped pages into pool,
 * disk and filled, and, while swap is disabled, what is resident, are told from samples.
 */
size_t swap_get_map(struct swap *swap, uint64_t cell_pages, size_t max, struct swap_map_cell *cells,
		    bool *exact);

const char *swap_state_name(enum swap_state state);
const char *swap_operation_name(enum swap_operation operation);
const char *swap_fault_kind_name(enum swap_fault_kind kind);

/*
 * An accessor that reads guest RAM by memfd offset without waking anything: swapped-out pages come
 * from the store and stay out. Reads only. Valid until swap_destroy().
 */
void swap_peek_access(struct swap *swap, struct guest_access *access);

#endif
