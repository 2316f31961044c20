/*
 * Reads all of guest RAM without waking it: every page stays where it is, in memory or in the store.
 * What a running guest writes meanwhile may or may not be seen; pause it for a consistent picture.
 */
#ifndef EBB_SWAP_DUMP_H
#define EBB_SWAP_DUMP_H

#include <stdint.h>

#include "memory/access.h"

/* Hexadecimal SHA-256 and the final zero. */
#define DUMP_DIGEST_SIZE 65

/* Told after each piece how many bytes have been dealt with. Not 0: stop, with that result. */
typedef int (*dump_progress)(void *opaque, uint64_t bytes);

/*
 * Writes what @access reaches to @fd, an empty regular file, each byte at its address; pages of
 * zeros become holes. 0, what the access, the file or @progress said (-errno).
 */
int dump_memory(const struct guest_access *access, int fd, dump_progress progress, void *opaque);

/* The SHA-256 of all bytes that @access reaches, in order. Results as above, -ENOMEM. */
int dump_digest(const struct guest_access *access, dump_progress progress, void *opaque,
		char digest[static DUMP_DIGEST_SIZE]);

#endif
