/*
 * The guest's free RAM, page by page, and what tests do to it: patterns, touches, timing.
 *
 * Free is every page of RAM that holds neither this program nor what the VMM handed over. A free
 * page may be given to the balloon; its content is then gone, as it is for a page reported as
 * free, until the page is filled again.
 */
#ifndef EBB_BARE_MEMORY_H
#define EBB_BARE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Returns NULL, or why there is no room for the books. */
const char *memory_init(void);

/* memory: the totals. */
void memory_command_info(void);
/* fill START LENGTH SEED */
void memory_command_fill(const uint64_t *arguments);
/* verify START LENGTH SEED BASE: the pattern that fill wrote at BASE */
void memory_command_verify(const uint64_t *arguments);
/* fillall SEED, verifyall SEED: every free page that is not in the balloon. */
void memory_command_fill_all(const uint64_t *arguments);
void memory_command_verify_all(const uint64_t *arguments);
/* zero START LENGTH */
void memory_command_zero(const uint64_t *arguments);
/*
 * known fill|zero START LENGTH [SEED], known verify|zeroes START LENGTH [SEED [BASE]]: the same for
 * ranges with holes. What is in the balloon is skipped, and what was given up is not compared but
 * counted, and how much of it is zero. SEED is of fill and verify alone.
 */
enum memory_known {
	MEMORY_KNOWN_FILL,
	MEMORY_KNOWN_ZERO,
	MEMORY_KNOWN_VERIFY,
	MEMORY_KNOWN_ZEROES
};
void memory_command_known(enum memory_known kind, const uint64_t *arguments);
/* touch START LENGTH STRIDE WRITE */
void memory_command_touch(const uint64_t *arguments);
/* latency START LENGTH: cycles of the first touch of each page, in random order */
void memory_command_latency(const uint64_t *arguments);
/* gap CYCLES: runs for so long and tells the longest time that it did not run. */
void memory_command_gap(const uint64_t *arguments);
/* churn START LENGTH COUNT: increments in random pages; a byte on the serial line ends it. */
void memory_command_churn(const uint64_t *arguments);

/*
 * Free pages for the balloon, from the top of RAM down. memory_give() marks one as given and
 * returns its frame number, or UINT64_MAX if none is left; memory_take_back() is the reverse.
 */
uint64_t memory_give(void);
void memory_take_back(uint64_t frame);

/*
 * A run of @count free pages, aligned to its size (a power of two), none in the balloon, below
 * frame @below; its contents are given up. The first frame, or UINT64_MAX.
 */
uint64_t memory_give_up_run(uint64_t count, uint64_t below);

uint64_t memory_given_pages(void);
uint64_t memory_free_pages(void);

/* True if a device may read (or write) the range: RAM that is no part of the balloon. */
bool memory_is_usable(uint64_t start, uint64_t length);

#endif
