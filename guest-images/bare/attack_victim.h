/*
 * A disk with I/O under way, for attacks that strike meanwhile: by another device on its rings and
 * buffers, or on the disk itself. Its buffers are this program's, whose contents tests do not verify.
 */
#ifndef EBB_BARE_ATTACK_VICTIM_H
#define EBB_BARE_ATTACK_VICTIM_H

#include <stdbool.h>
#include <stdint.h>

#include "attack_driver.h"

#define VICTIM_REQUESTS 8
#define VICTIM_BYTES    (32u << 10) /* of one request */
#define VICTIM_PAGES    (VICTIM_REQUESTS * VICTIM_BYTES / 4096)

struct victim {
	struct attacker disk;
	uint16_t submitted;
};

/* The pages in use: of data, of request headers, of status bytes. */
extern uint8_t victim_data[VICTIM_REQUESTS * VICTIM_BYTES];
extern uint8_t victim_headers[4096], victim_statuses[4096];

/* Takes the first disk and writes a pattern to it. NULL, or why not. */
const char *victim_prepare(struct victim *v);

/* Has the disk read the pattern, or write it elsewhere, by VICTIM_REQUESTS requests. */
void victim_begin(struct victim *v, bool write);

/* True once all that was begun is done. */
bool victim_await(struct victim *v, uint64_t cycles);

/*
 * Resets the disk. What was not written to has its pattern; what was written to has that or the zeros
 * of pages that were given up, and nothing else. NULL, or what is wrong.
 */
const char *victim_check(struct victim *v);

#endif
