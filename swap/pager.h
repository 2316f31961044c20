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
 *    meanwhile makes it RESIDENT and the write is thrown away. It leaves the memfd only when the disk
 *    has taken it, and the punch and the change to SWAPPED happen under one hold of the lock.
 *  - A staged page that is no longer in the memfd can only have been discarded by the guest (the
 *    pager itself punches only together with a change of state): it is EMPTY.
 *  - Between the reading of a REMOVE event and its application the guest may go on, so the map is
 *    behind. Bulk work that stages pages or brings them back excludes that moment (removal_lock). One
 *    thread reads events; a second one could apply a REMOVE so late that it hits newer data.
 *  - The pager touches guest RAM through the pager view and the memfd only.
 *
 * Threads: pager_read_events(), pager_fault() and pager_remove() from the monitor; the bulk functions
 * (stage to swap_in) from one worker; the rest from any thread. No function sleeps on anything but
 * disk I/O, the kernel's userfaultfd calls and the pager's own locks; pager_zap() needs somebody who
 * reads events. Order of locks: removal_lock, a chunk's lock, the store's.
 */
#ifndef EBB_SWAP_PAGER_H
#define EBB_SWAP_PAGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"
#include "swap/page_map.h"
#include "swap/store.h"
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
	uint64_t redundant; /* faults whose page somebody else had filled already */
	uint64_t retried;   /* faults that must be answered again later (-EAGAIN) */
	uint64_t cancelled; /* pages touched while they were being written */
	uint64_t removed;   /* pages freed by REMOVE events */
	uint64_t staged;
	uint64_t stored;     /* pages written to the store and taken out of the memfd */
	uint64_t swapped_in; /* pages copied from the store by pager_swap_in() */
	uint64_t trimmed_zero;
	uint64_t trimmed_clean;
};

/* Where a bulk operation stands. Start with all zero; go on with the same cursor. */
struct pager_cursor {
	size_t page;    /* the next page to look at */
	uint64_t moved; /* pages staged, dropped, written or brought back so far */
	uint64_t data_start,
		data_end; /* stage: populated bytes of the memfd that were found last */
};

struct pager;

/*
 * A pager for @regions of @memory's guest view, all pages EMPTY: a page that is in the memfd
 * without the pager's knowledge is found out when it is touched or staged. -EINVAL if a region is
 * empty, unaligned, outside the view, or overlaps another.
 */
int pager_create(const struct guest_memory *memory, const struct uffd *uffd, struct store *store,
		 const struct pager_region *regions, size_t count, struct pager **out);
void pager_destroy(struct pager *pager);

/* Registers and unregisters all regions with the userfaultfd. 0 or -errno. */
int pager_register(struct pager *pager);
int pager_unregister(struct pager *pager);

/*
 * Answers a fault at host address @address of the guest view, at any offset in its page. 0:
 * answered. -EAGAIN: not now; call again later, after events have been read. -EFAULT: outside the
 * regions. -ENOMEM, -ENOSPC: no memory for the page now; call again. -EIO etc.: the store could not
 * be read; the page is unchanged and the faulting thread sleeps on.
 */
int pager_fault(struct pager *pager, uint64_t address);

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
 * Marks what is in the memfd STAGED, up to about @budget pages from the cursor on. 1: more is left,
 * 0: done, -errno. Nothing may be read from staging before pager_zap().
 */
int pager_stage(struct pager *pager, struct pager_cursor *cursor, size_t budget);

/*
 * Drops the guest's mappings, so that its next touch of each page faults: up to about @budget pages
 * from the cursor on, in pieces, because a vCPU that faults in a range that is being zapped must
 * wait for the end of the piece. 1: more is left, 0: done, -errno.
 */
int pager_zap(struct pager *pager, struct pager_cursor *cursor, size_t budget);

/*
 * Each works on up to @budget pages from the cursor on. 1: more is left; 0: done; -EAGAIN: call
 * again after a moment; else -errno: nothing is lost, the page at the cursor and those behind it
 * are as they were. trim       STAGED pages that are zero or equal their stored copy leave the
 * memfd write_out  STAGED pages go to the store (zero ones nowhere) and leave the memfd swap_in
 * STAGED and SWAPPED pages become RESIDENT
 */
int pager_trim(struct pager *pager, struct pager_cursor *cursor, size_t budget);
int pager_write_out(struct pager *pager, struct pager_cursor *cursor, size_t budget);
int pager_swap_in(struct pager *pager, struct pager_cursor *cursor, size_t budget);

/*
 * Gives back some disk space of entries that were dropped. True: more is left. May sleep on the file
 * system; any thread.
 */
bool pager_reclaim(struct pager *pager);

/*
 * Copies from memfd offset @offset, inside one page, without changing where the page is. @buffer must
 * not be guest RAM, which could fault while a lock is held. 0 or -errno.
 */
int pager_peek(struct pager *pager, uint64_t offset, void *buffer, size_t length);

size_t pager_pages(const struct pager *pager);
void pager_get_counters(const struct pager *pager, struct pager_counters *counters);
void pager_get_counts(const struct pager *pager, uint64_t counts[static PAGE_STATES]);

/* The page's state, for tests. */
enum page_state pager_page_state(struct pager *pager, size_t page);

#endif
