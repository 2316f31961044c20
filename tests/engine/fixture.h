/*
 * A guest without KVM: guest RAM whose view threads of the test touch, with a real userfaultfd,
 * store and (if wanted) monitor thread behind it.
 */
#ifndef EBB_TESTS_ENGINE_FIXTURE_H
#define EBB_TESTS_ENGINE_FIXTURE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "memory/guest_memory.h"
#include "swap/monitor.h"
#include "swap/pager.h"
#include "swap/store.h"

struct engine {
	struct guest_memory *memory;
	struct uffd *uffd;
	struct store *store;
	struct pager *pager;
	struct pager_context *context; /* the test's own */
	struct monitor *monitor;       /* NULL: the test answers faults itself */
	uint8_t *guest;                /* the guest view */
	_Atomic int troubles;          /* times that the monitor reported trouble */
	void (*_Atomic on_trouble)(void);
};

/* Where test stores go, with everything else as by default. */
struct store_config test_store(void);

/* Where test stores go: $EBB_TEST_DIR, else /var/tmp. */
const char *test_store_dir(void);

struct guest_memory *create_memory(size_t pages);

/* Guest RAM of @pages, registered. */
void engine_create(struct engine *engine, size_t pages, bool with_monitor);
void engine_destroy(struct engine *engine);

/* Stages and zaps everything. */
void engine_stage(struct engine *engine);

/* Runs a job alone to its end; returns its result. */
int run_job(struct engine *engine, int (*work)(struct pager_context *, struct pager_job *),
	    uint64_t *moved);

/* Entries in the store, and bytes of its file's blocks. */
uint64_t stored_entries(const struct engine *engine);
uint64_t stored_file_bytes(const struct engine *engine);

/* Answers a fault on the test's thread, from the disk if need be. As pager_fault(). */
int answer_fault(struct engine *engine, uint64_t address);

/* stage + write out. */
void engine_swap_out(struct engine *engine);

uint8_t *page_of(const struct engine *engine, size_t page);

/* Fills a page with bytes that depend on @seed, or checks that it still holds them. */
void fill_page(uint8_t *page, uint32_t seed);
bool page_holds(const uint8_t *page, uint32_t seed);

struct pager_counters counters_of(const struct engine *engine);

/* A guest thread that reads one byte at @address, and how to await it. */
struct toucher {
	pthread_t thread;
	volatile uint8_t *address;
	uint8_t value;
	_Atomic bool done;
};

void toucher_start(struct toucher *toucher, volatile uint8_t *address);
void toucher_join(struct toucher *toucher);

/* Waits (at most 10 s) until @condition() is true; fails the test otherwise. */
#define await(condition)                                                                           \
	do {                                                                                       \
		int tries = 0;                                                                     \
		while (!(condition)) {                                                             \
			if (++tries > 10000)                                                       \
				fail_msg("timed out waiting for: %s", #condition);                 \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

#endif
