#include "vmm/base/rate.h"

#include "vmm/base/clock.h"

/* What happened this long ago counts for less than half. */
#define MEMORY_NS (3.0 * (double)NS_PER_SEC)

/* Nobody wants to know more precisely; and sums with it stay far from wrapping. */
#define TIME_MAX_NS (1000.0 * 3600.0 * (double)NS_PER_SEC)

void rate_start(struct rate *rate, uint64_t now_ns)
{
	*rate = (struct rate){.last_ns = now_ns};
}

void rate_note(struct rate *rate, uint64_t now_ns, uint64_t done)
{
	double passed, pace, weight;

	if (now_ns <= rate->last_ns)
		return;
	passed = (double)(now_ns - rate->last_ns);
	pace = done > rate->last_done ? (double)(done - rate->last_done) / passed : 0.0;
	weight = passed / (passed + MEMORY_NS);
	if (rate->per_ns <= 0.0)
		rate->per_ns = pace;
	else
		rate->per_ns += (pace - rate->per_ns) * weight;
	rate->last_ns = now_ns;
	rate->last_done = done;
}

uint64_t rate_per_second(const struct rate *rate)
{
	double per_second = rate->per_ns * (double)NS_PER_SEC;

	return per_second < (double)INT64_MAX ? (uint64_t)per_second : INT64_MAX;
}

uint64_t rate_time_for(const struct rate *rate, uint64_t left)
{
	double time;

	if (!left)
		return 0;
	if (rate->per_ns <= 0.0)
		return RATE_UNKNOWN;
	time = (double)left / rate->per_ns;
	return time < TIME_MAX_NS ? (uint64_t)time : RATE_UNKNOWN;
}
