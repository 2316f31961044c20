/* Atomic operations on guest memory whose width is known only at run time. */
#ifndef EBB_MEMORY_ATOMIC_H
#define EBB_MEMORY_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Compare-exchange of @size (1, 2, 4 or 8) bytes at @host, aligned to @size. True: replaced. False:
 * *@expected holds what was found. Sequentially consistent.
 */
static inline bool memory_compare_exchange(void *host, unsigned size, uint64_t *expected,
					   uint64_t desired)
{
	uint8_t expected8 = (uint8_t)*expected;
	uint16_t expected16 = (uint16_t)*expected;
	uint32_t expected32 = (uint32_t)*expected;
	bool replaced;

	switch (size) {
	case 1:
		replaced =
			__atomic_compare_exchange_n((uint8_t *)host, &expected8, (uint8_t)desired,
						    false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*expected = expected8;
		return replaced;
	case 2:
		replaced = __atomic_compare_exchange_n((uint16_t *)host, &expected16,
						       (uint16_t)desired, false, __ATOMIC_SEQ_CST,
						       __ATOMIC_SEQ_CST);
		*expected = expected16;
		return replaced;
	case 4:
		replaced = __atomic_compare_exchange_n((uint32_t *)host, &expected32,
						       (uint32_t)desired, false, __ATOMIC_SEQ_CST,
						       __ATOMIC_SEQ_CST);
		*expected = expected32;
		return replaced;
	default:
		return __atomic_compare_exchange_n((uint64_t *)host, expected, desired, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

#endif
