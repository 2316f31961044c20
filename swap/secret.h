/*
 * Memory for keys: locked into RAM (as far as RLIMIT_MEMLOCK lets us), left out of core dumps, empty
 * in a forked child, zeroed when freed. One small range of addresses for the whole process.
 *
 * libcrypto expands keys into contexts that it allocates itself: between secret_scope_begin() and
 * _end() all that it allocates on this thread comes from here too. That needs its allocator to be
 * replaced before it has allocated anything, by secret_init(). Any thread; a lock inside.
 */
#ifndef EBB_SWAP_SECRET_H
#define EBB_SWAP_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Once or more, before the first use of libcrypto. 0, or -ENOMEM. */
int secret_init(void);

/* Zeroed memory, aligned to 256 bytes; NULL: none left. */
void *secret_alloc(size_t size);
void secret_free(void *memory);
bool secret_owns(const void *memory);

void secret_scope_begin(void);
void secret_scope_end(void);

#endif
