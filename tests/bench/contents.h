/*
 * Memory contents for the benchmark: pages like those of a guest, the same on every host.
 *
 * Each page is one of five kinds, chosen by a seeded hash in runs of 16 pages (as allocators cluster
 * what is alike), with shares in percent that the user may change:
 *
 *   zero    memory that was freed and cleared
 *   text    words with a natural distribution of frequencies, and lines as logs have them
 *   code    bytes as x86-64 compilers emit them: prologues, moves, calls, short jumps
 *   heap    malloc()ed objects: headers, pointers with common high bytes, small integers, short text
 *   random  compressed or encrypted data
 *
 * No two pages that are not zero are equal. Or the pages of a file, repeated.
 *
 * A ledger holds a hash of each page, so that memory can be proved whole. The benchmark alone
 * writes the memory, and enters in the ledger what it writes.
 *
 * Objects are immutable (contents) or owned by one thread (ledger); work on whole memories is
 * spread over all CPUs. Results are 0 or -errno.
 */
#ifndef EBB_BENCH_CONTENTS_H
#define EBB_BENCH_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

enum contents_kind {
	CONTENTS_ZERO,
	CONTENTS_TEXT,
	CONTENTS_CODE,
	CONTENTS_HEAP,
	CONTENTS_RANDOM,
	CONTENTS_KINDS,
};

struct contents_config {
	unsigned share[CONTENTS_KINDS]; /* percent; their sum is 100 */
	uint64_t seed;
	const char *file; /* NULL: generated */
};

extern const struct contents_config contents_default;

struct contents;

/* "zero=15,text=15,…": kinds that are not named get 0. -EINVAL with @err. */
int contents_parse_mix(const char *text, struct contents_config *config, struct error *err);

int contents_create(const struct contents_config *config, struct contents **out, struct error *err);
void contents_destroy(struct contents *contents);

bool contents_is_zero(const struct contents *contents, uint64_t page);

/* Writes the content of the page numbered @page to @target. */
void contents_page(const struct contents *contents, uint64_t page, uint8_t *target);

/* Writes pages 0 to @pages - 1 to @base. */
void contents_fill(const struct contents *contents, uint8_t *base, uint64_t pages);

struct contents_ratio {
	double zero; /* share of zero pages */
	double lz4;  /* compressed by uncompressed size of the others, page by page */
	double zstd; /* the same at level 1 */
};

/* From a sample of the first @pages. -ENOMEM. */
int contents_measure(const struct contents *contents, uint64_t pages, struct contents_ratio *ratio);

struct ledger {
	uint64_t pages;
	uint64_t *hash;
};

/* Notes what is at @base now. */
int ledger_create(const uint8_t *base, uint64_t pages, struct ledger *ledger);
void ledger_destroy(struct ledger *ledger);

/* Changes some bytes of @page of the memory at @base. */
void ledger_dirty(struct ledger *ledger, uint8_t *base, uint64_t page, uint64_t seed);

/* The number of pages at @base that are not what they must be; the first in *first. */
uint64_t ledger_check(const struct ledger *ledger, const uint8_t *base, uint64_t *first);

/* The same, reading by pread() from @fd at offset 0, which touches no mapping. */
uint64_t ledger_check_file(const struct ledger *ledger, int fd, uint64_t *first);

#endif
