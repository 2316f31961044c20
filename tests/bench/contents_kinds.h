/* Generators of pages of one kind each; see contents.h. The same seed gives the same bytes. */
#ifndef EBB_BENCH_CONTENTS_KINDS_H
#define EBB_BENCH_CONTENTS_KINDS_H

#include <stddef.h>
#include <stdint.h>

struct random {
	uint64_t state;
};

/* A 64-bit mix of a counter: passes for random, starts well from any state. */
static inline uint64_t random_next(struct random *random)
{
	uint64_t value = random->state += 0x9e3779b97f4a7c15ull;

	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ull;
	value = (value ^ value >> 27) * 0x94d049bb133111ebull;
	return value ^ value >> 31;
}

static inline unsigned random_below(struct random *random, unsigned limit)
{
	return (unsigned)((random_next(random) >> 32) * limit >> 32);
}

void generate_text(uint8_t *target, size_t length, struct random *random);
void generate_code(uint8_t *target, size_t length, struct random *random);
void generate_heap(uint8_t *target, size_t length, struct random *random);

#endif
