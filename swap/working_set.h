/*
 * Which pages a guest wants first when it wakes up. Every page that a fault brings from the store is
 * noted, in order, up to a cap. When the guest goes to sleep again, what was noted becomes the front
 * of the remembered set; pages that no fault asked for in the last WORKING_SET_CYCLES wake-ups are
 * forgotten (those that were brought back by prefetching fault no more, so they fade in time and are
 * learned anew).
 *
 * Threads: working_set_note() from any; the rest from one at a time.
 * Memory: 8 bytes a page of the cap, which is a sixteenth of guest RAM.
 */
#ifndef EBB_SWAP_WORKING_SET_H
#define EBB_SWAP_WORKING_SET_H

#include <stddef.h>
#include <stdint.h>

#define WORKING_SET_CYCLES 4u

struct working_set;

/* For a guest of @pages pages; those behind the first TiB are never noted. 0 or -ENOMEM. */
int working_set_create(size_t pages, struct working_set **out);
void working_set_destroy(struct working_set *set);

/* @page was brought by a fault. */
void working_set_note(struct working_set *set, size_t page);

/* The guest sleeps: remembers what was noted since the last call. Nothing noted: nothing changes. */
void working_set_learn(struct working_set *set);

/* The remembered pages, the first one first. */
size_t working_set_count(const struct working_set *set);
size_t working_set_page(const struct working_set *set, size_t index);

uint64_t working_set_ram_bytes(const struct working_set *set);

#endif
