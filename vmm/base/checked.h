/*
 * Arithmetic on numbers that a guest, a file or a client chose: nothing here wraps silently.
 */
#ifndef EBB_BASE_CHECKED_H
#define EBB_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The containing struct of a member. @ptr is not NULL. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* True, and *sum = a + b, unless that wraps. */
static inline bool checked_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

/* True, and *product = a * b, unless that wraps. */
static inline bool checked_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* True if [start, start + length) lies in [0, limit). An empty range at @limit does. */
static inline bool range_within(uint64_t start, uint64_t length, uint64_t limit)
{
	return start <= limit && length <= limit - start;
}

/* @alignment is a power of two. */
static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
	return (value & (alignment - 1)) == 0;
}

/* @alignment is a power of two. */
static inline uint64_t align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

/* True, and *aligned = value rounded up to @alignment (a power of two), unless that wraps. */
static inline bool checked_align_up(uint64_t value, uint64_t alignment, uint64_t *aligned)
{
	if (!checked_add(value, alignment - 1, aligned))
		return false;
	*aligned = align_down(*aligned, alignment);
	return true;
}

#endif
