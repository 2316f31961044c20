/*
 * The pager: who decides what happens to a page. It owns the page map; the userfaultfd, the store and
 * the guest memory are borrowed.
 *
 *            touch: zero page                   stage (zap)
 *  EMPTY ───────────────────────► RESIDENT ───────────────────► STAGED
 *    ▲                              ▲   ▲ touch: CONTINUE, no copy │ │ trim: zero page → EMPTY
 *    │ REMOVE event (any state)     │   └──────────────────────────┘ │ trim: equals its copy → SWAPPED
 *    │                              │      touch cancels             ▼ write out
 *    │                              │◄──────────────────────────  WRITING ──► punch hole ──► SWAPPED
 *    │                              │                                                           │
 *    └──────────────────────────────┴───────────────── touch, swap in: COPY ────────────────────┘
 *
 * What keeps it right:
 *  - A decision is taken from the page's state under its chunk's lock, never from what a fault said.
 *  - A page is read for writing out only after the zap that followed its staging has returned; a touch
 *    meanwhile makes it RESIDENT and the write is thrown away. It leaves the memfd only when the store
 *    has it safe, and the punch and the change to SWAPPED happen under one hold of the lock.
 *  - A staged page that is no longer in the memfd can only have been discarded by the guest (the
 *    pager itself punches only together with a change of state): it is EMPTY.
 *  - What is read from the store without the lock counts only if the page's entry and its chunk's
 *    version are still the same with the lock held.
 *  - Between the reading of a REMOVE event and its application the guest may go on, so the map is
 *    behind. event_lock is held from before events are read until their REMOVEs are applied, so no
 *    thread sees a fault that came after a REMOVE which is not applied yet. Bringing back pages that
 *    no fault asked for is a *fill* (memory/guest_memory.h): it excludes discards, and passes
 *    event_lock once for the last of them to be applied. A zap excludes them in the same way.
 *  - The pager touches guest RAM through the pager view and the memfd only.
 *
 * Threads: pager_read_events(), pager_fault() and pager_remove() from the monitor's threads, each
 * with a context of its own. Jobs: stage and zap from one thread; trim, write_out, swap_in, working
 * set and compact from several at once, each with a context, all for the same job; one job at a
 * time. The rest from any thread. No function sleeps on anything but disk I/O, the kernel's
 * userfaultfd calls and the pager's own locks; pager_zap() needs somebody who reads events.
 * Order of locks: a fill, event_lock, a chunk's lock, the store's.
 */
#ifndef EBB_SWAP_PAGER_H
#define EBB_SWAP_PAGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"
#include "swap/page_map.h"
#include "swap/store.h"
#include "swap/swap_map.h"
#include "swap/uffd.h"

/* Bytes [offset, offset + length) of the guest view. */
struct pager_region {
	uint64_t offset;
	uint64_t length;
};

#define PAGER_REGIONS_MAX GUEST_MEMORY_REGIONS_MAX

/* The store is asked this often before a read counts as failed. */
#define PAGER_STORE_READ_TRIES 3

struct pager_counters {
	uint64_t zeroed;    /* faults answered by a zero page */
	uint64_t continued; /* faults answered from staging (or a resident page), no copy */
	uint64_t copied;    /* faults answered from the store */
	uint64_t ahead; /* pages brought along because a fault's toucher seemed to come to them */
	uint64_t redundant; /* faults whose page somebody else had filled already */
	uint64_t retried;   /* faults that must be answered again later (-EAGAIN) */
	uint64_t cancelled; /* pages touched while they were being written */
	uint64_t removed;   /* pages freed by REMOVE events */
	uint64_t staged;
	uint64_t stored;     /* pages put into the store and taken out of the memfd */
	uint64_t swapped_in; /* pages copied from the store by swap in */
	uint64_t trimmed_zero;
	uint64_t trimmed_clean;
	uint64_t compacted; /* pages moved within the store */
};

/* How a fault was answered. */
enum pager_answer {
	PAGER_ANSWER_ZERO,
	PAGER_ANSWER_PRESENT, /* it was in the memfd */
	PAGER_ANSWER_POOL,    /* from the store, without touching the disk */
	PAGER_ANSWER_FILE,
	PAGER_ANSWERS,
};

/*
 * What the threads that do one bulk operation share: who takes which pages, and how far they are.
 * Start with all zero. Any thread may read it, and set .stop.
 */
struct pager_job {
	atomic_size_t next;     /* the first page (working set: index) that nobody has taken */
	atomic_bool stop;       /* cancelled, or failed in one of the threads: take no more */
	_Atomic uint64_t done;  /* pages looked at */
	_Atomic uint64_t moved; /* pages staged, dropped, written or brought back */
};

struct pager;

/* What a thread needs of its own to answer faults or to work on jobs: a reader, buffers. */
struct pager_context;

/*
 * A pager for @regions of @memory's guest view, all pages EMPTY: a page that is in the memfd
 * without the pager's knowledge is found out when it is touched or staged. -EINVAL if a region is
 * empty, unaligned, outside the view, or overlaps another.
 */
int pager_create(const struct guest_memory *memory, const struct uffd *uffd, struct store *store,
		 const struct pager_region *regions, size_t count, struct pager **out);
void pager_destroy(struct pager *pager);

/*
 * @dropped is called (any thread, perhaps with event_lock held) when entries were dropped outside of
 * a job: there may be space to reclaim, or to compact. Before faults are served.
 */
void pager_on_drop(struct pager *pager, void (*dropped)(void *opaque), void *opaque);

/* A context must not outlive its pager. 0 or -errno. */
int pager_context_create(struct pager *pager, struct pager_context **out);
void pager_context_destroy(struct pager_context *context);

/* Registers and unregisters all regions with the userfaultfd. 0 or -errno. */
int pager_register(struct pager *pager);
int pager_unregister(struct pager *pager);

/*
 * Answers a fault at host address @address of the guest view, at any offset in its page. 0:
 * answered, *answer says how. 1: the page must be read from the disk: pager_fault_begin() of the same
 * context asks for it without waiting, if it is called, and pager_fault_read() answers. -EAGAIN: not
 * now; call again later, after events have been read.
 * -EFAULT: outside the regions. -ENOMEM, -ENOSPC: no memory for the page now; call again. -EIO etc.:
 * the store could not be read; the page is unchanged and the faulting thread sleeps on.
 */
int pager_fault(struct pager_context *context, uint64_t address, enum pager_answer *answer);
void pager_fault_begin(struct pager_context *context);
int pager_fault_read(struct pager_context *context, enum pager_answer *answer);

/*
 * Reads what waits in the userfaultfd, applies its REMOVE events, and hands out the addresses of its
 * faults. 0 with *events read (0: nothing waited) and *fault_count addresses; else -errno.
 */
int pager_read_events(struct pager *pager, uint64_t faults[static UFFD_EVENTS_MAX],
		      size_t *fault_count, size_t *events);

/*
 * Applies the REMOVE event [start, end): the zap that the pager announced itself is recognised and
 * changes nothing; everything else frees staging and store. -EFAULT: outside the regions.
 */
int pager_remove(struct pager *pager, uint64_t start, uint64_t end);

/*
 * The jobs. Each thread returns when all pages are taken and its own are done: 0; -ECANCELED: .stop
 * was set by somebody; else -errno, and .stop is set. Every page is valid then, in the state that it
 * had reached.
 *
 *   stage      marks what is in the memfd STAGED. Nothing may be read from staging before the zap
 *   zap        drops the guest's mappings, so that its next touch of each page faults; in pieces,
 *              because a vCPU that faults in a range that is being zapped waits for the end of it
 *   trim       STAGED pages that are zero or equal their stored copy leave the memfd
 *   write_out  STAGED pages go to the store (zero ones nowhere) and leave the memfd
 *   swap_in    STAGED and SWAPPED pages become RESIDENT
 *   working_set  the remembered pages of those become RESIDENT, in the order of the first touches
 *   compact    stored copies that lie in the store's victim segments move elsewhere
 */
int pager_stage(struct pager *pager, struct pager_job *job);
int pager_zap(struct pager *pager, struct pager_job *job);
int pager_trim(struct pager_context *context, struct pager_job *job);
int pager_write_out(struct pager_context *context, struct pager_job *job);
int pager_swap_in(struct pager_context *context, struct pager_job *job);
int pager_working_set(struct pager_context *context, struct pager_job *job);
int pager_compact(struct pager_context *context, struct pager_job *job);

/* The guest goes to sleep: what it touched first since the last call is its working set now. */
void pager_learn_working_set(struct pager *pager);
size_t pager_working_set_pages(const struct pager *pager);

/*
 * Copies from memfd offset @offset, inside one page, without changing where the page is. @buffer must
 * not be guest RAM, which could fault while a lock is held. 0 or -errno.
 */
int pager_peek(struct pager *pager, uint64_t offset, void *buffer, size_t length);

void pager_get_counters(const struct pager *pager, struct pager_counters *counters);
/* Adds @more to @sum. */
void pager_counters_add(struct pager_counters *sum, const struct pager_counters *more);
void pager_get_counts(const struct pager *pager, uint64_t counts[static PAGE_STATES]);
/*
 * Where the pages [first, end) are. Not @exact: whole chunks are only counted, and how their swapped
 * pages divide into pool and disk is told from a sample.
 */
void pager_map_cell(struct pager *pager, size_t first, size_t end, bool exact,
		    struct swap_map_cell *cell);

/* Bytes of RAM that the pager's tables occupy. */
uint64_t pager_ram_bytes(const struct pager *pager);

/* The page's state, for tests. */
enum page_state pager_page_state(struct pager *pager, size_t page);

#endif
