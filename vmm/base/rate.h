/*
 * How fast work goes on: a mean that forgets what is more than some seconds ago, so that a change
 * of pace shows and a single slow moment does not. Plain data, no clock of its own, no locks.
 */
#ifndef EBB_VMM_BASE_RATE_H
#define EBB_VMM_BASE_RATE_H

#include <stdint.h>

#define RATE_UNKNOWN UINT64_MAX

struct rate {
	uint64_t last_ns;
	uint64_t last_done;
	double per_ns; /* 0: not known yet */
};

void rate_start(struct rate *rate, uint64_t now_ns);

/* @done units of work, of any kind, have been done by now in all. */
void rate_note(struct rate *rate, uint64_t now_ns, uint64_t done);

/* Units per second; 0 if not known. */
uint64_t rate_per_second(const struct rate *rate);

/* How long @left units will take; RATE_UNKNOWN if that cannot be said. */
uint64_t rate_time_for(const struct rate *rate, uint64_t left);

#endif
