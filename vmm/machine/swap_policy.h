/*
 * When to swap a guest out without being told: the decisions of `--swap-auto`, and nothing else. It
 * reads no clock and starts nothing; it is told what has happened and says what to do next.
 *
 *             idle long enough, or pressure
 *   WATCHING ───────────► STAGING ──► SETTLING ──► TRIMMING ──► WRITING ──► ASLEEP
 *      ▲  ▲                  │ fails     │ touched a lot  │ fails   │          │ wakes
 *      │  └──────────────────┴───────────┴────────────────┴─────────┴──────────┘
 *      │ has worked, then been idle long enough
 *   SUSPENDED ◄── a swap command of the user, from anywhere
 *
 * Idle: the vCPUs use less than SWAP_POLICY_IDLE_SHARE of one CPU, bursts of SWAP_POLICY_BURST_NS
 * allowed. Every time they use more, the waiting begins anew. Pressure has a high mark, at which it
 * begins, and a low one, at which it ends; it swaps out what a working guest does not touch, too.
 *
 * After staging, the guest must leave most of it alone for a while. If it does not, or wakes soon
 * after it was written out, the next wait is twice as long, up to SWAP_POLICY_BACKOFF_MAX times.
 */
#ifndef EBB_VMM_MACHINE_SWAP_POLICY_H
#define EBB_VMM_MACHINE_SWAP_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "swap/swap.h"
#include "vmm/base/clock.h"
#include "vmm/base/error.h"
#include "vmm/base/pressure.h"

#define SWAP_POLICY_IDLE_SHARE       0.05
#define SWAP_POLICY_BURST_NS         (250 * NS_PER_MS)
#define SWAP_POLICY_IDLE_MAX_SECONDS 604800u /* a week */
#define SWAP_POLICY_SETTLE_MAX_NS    (10 * NS_PER_SEC)
#define SWAP_POLICY_PRESSURE_SETTLE  (5 * NS_PER_SEC)
/* How often settling under pressure is tried again for a guest that touches a lot. */
#define SWAP_POLICY_PRESSURE_TRIES 4u
/* Between two swap-outs by pressure. */
#define SWAP_POLICY_PRESSURE_REST_NS (60 * NS_PER_SEC)
/* For a policy of pressure alone: how long idle ends a suspension. */
#define SWAP_POLICY_REST_NS     (60 * NS_PER_SEC)
#define SWAP_POLICY_BACKOFF_MAX 16u
#define SWAP_POLICY_TEXT_MAX    64

struct swap_policy_config {
	uint64_t idle_ns; /* 0: idleness does not count */
	bool pressure;
};

enum swap_policy_phase {
	SWAP_POLICY_OFF,
	SWAP_POLICY_WATCHING,
	SWAP_POLICY_STAGING,
	SWAP_POLICY_SETTLING,
	SWAP_POLICY_TRIMMING,
	SWAP_POLICY_WRITING,
	SWAP_POLICY_ASLEEP,
	SWAP_POLICY_SUSPENDED,
};

enum swap_policy_cause {
	SWAP_POLICY_IDLE,
	SWAP_POLICY_PRESSURE,
};

enum swap_policy_action {
	SWAP_POLICY_WAIT,
	SWAP_POLICY_START,  /* swap_policy.operation */
	SWAP_POLICY_CANCEL, /* it */
};

/* What is so now. */
struct swap_policy_input {
	uint64_t now_ns;  /* monotonic */
	uint64_t cpu_ns;  /* that the vCPUs have used; may begin at 0 again after a reset */
	uint64_t touches; /* faults answered so far; may begin at 0 again */
	uint64_t pages_total;
	enum pressure_level pressure;
	enum swap_state state;
	bool busy;  /* some operation runs */
	int result; /* of the last run of swap_policy.operation */
};

/* Plain data; the members are to be read, not written, from outside. */
struct swap_policy {
	struct swap_policy_config config;
	enum swap_policy_phase phase;
	enum swap_policy_cause cause;  /* of the cycle that runs or ran last */
	enum swap_operation operation; /* started last; SWAP_OP_NONE: none yet */
	uint64_t operation_ns;         /* when that was */
	uint64_t cycles;               /* that ended with the guest swapped out */
	unsigned backoff;              /* times the wait is longer */
	bool must_work;                /* suspended until the guest has worked */

	bool seen; /* the next three are known */
	uint64_t last_ns;
	uint64_t last_cpu_ns;
	double credit_ns; /* of CPU time that may be used before it counts as work */
	bool worked;      /* just now */
	uint64_t idle_since_ns;

	uint64_t phase_since_ns;
	uint64_t touches_before;
	unsigned tries;
	bool cancelling;
	bool pressed; /* pressure has begun and not ended */
	uint64_t pressure_rest_until_ns;
};

/* "off", "idle=60", "pressure", "idle=60,pressure". 0 or -EINVAL with the choices in @err. */
int swap_policy_parse(const char *text, struct swap_policy_config *config, struct error *err);

/* The reverse. @text has SWAP_POLICY_TEXT_MAX bytes. Returns it. */
char *swap_policy_format(const struct swap_policy_config *config, char *text);

bool swap_policy_is_on(const struct swap_policy_config *config);

/* Begins anew with @config. */
void swap_policy_set(struct swap_policy *policy, const struct swap_policy_config *config,
		     uint64_t now_ns);

/* Called about once a second, and when an operation has ended. */
enum swap_policy_action swap_policy_step(struct swap_policy *policy,
					 const struct swap_policy_input *input);

/* What SWAP_POLICY_START asked for was refused. */
void swap_policy_refused(struct swap_policy *policy, uint64_t now_ns);

/* The user has given a swap command: nothing until the guest has worked and was idle anew. */
void swap_policy_suspend(struct swap_policy *policy, uint64_t now_ns);

/* The user wakes the guest: the waiting begins anew. */
void swap_policy_wake(struct swap_policy *policy, uint64_t now_ns);

/* How long the guest has to be idle, back-off included; 0: idleness does not count. */
uint64_t swap_policy_wait_ns(const struct swap_policy *policy);

/* Until the next thing can happen, if nothing changes; UINT64_MAX if that is not known. */
uint64_t swap_policy_remaining_ns(const struct swap_policy *policy, uint64_t now_ns);

/* "watching" */
const char *swap_policy_phase_name(enum swap_policy_phase phase);
const char *swap_policy_cause_name(enum swap_policy_cause cause);

#endif
