/* The time by which something must have happened: CLOCK_MONOTONIC in nanoseconds. */
#ifndef EBB_DEVICES_DEADLINE_H
#define EBB_DEVICES_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"

#define DEADLINE_NEVER UINT64_MAX

static inline uint64_t deadline_in(uint64_t delay_ns)
{
	uint64_t deadline;

	return checked_add(clock_monotonic_ns(), delay_ns, &deadline) ? deadline : DEADLINE_NEVER;
}

static inline bool deadline_is_over(uint64_t deadline)
{
	return clock_monotonic_ns() >= deadline;
}

/* For pthread_cond_clockwait() and its like. DEADLINE_NEVER is some centuries ahead. */
static inline struct timespec deadline_timespec(uint64_t deadline)
{
	return (struct timespec){
		.tv_sec = (time_t)(deadline / NS_PER_SEC),
		.tv_nsec = (long)(deadline % NS_PER_SEC),
	};
}

#endif
