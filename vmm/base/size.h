/* Sizes as people write them: 512M, 4G, 64K, 4096. */
#ifndef EBB_BASE_SIZE_H
#define EBB_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

/*
 * Parses decimal digits and an optional K, M, G or T (either case, binary multiples), nothing
 * before or after. Returns 0 with *bytes set, -EINVAL if @text is no size, -ERANGE if it exceeds
 * 2^64-1.
 */
int size_parse(const char *text, uint64_t *bytes);

/* Writes e.g. "1.5 GiB" or "12 KiB" to @text (@length bytes, 16 are enough). Returns @text. */
char *size_format(uint64_t bytes, char *text, size_t length);

#endif
