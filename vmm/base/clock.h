/* Time that only moves forward, and the time of day. */
#ifndef EBB_BASE_CLOCK_H
#define EBB_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_US  1000ull
#define NS_PER_MS  1000000ull
#define NS_PER_SEC 1000000000ull

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_monotonic_ns(void);

/* CLOCK_REALTIME in nanoseconds: for people, and may jump. */
uint64_t clock_realtime_ns(void);

#endif
