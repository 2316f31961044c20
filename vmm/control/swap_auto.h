/*
 * `--swap-auto`: looks at the guest and the host once a second, asks swap_policy.h what to do and
 * starts it. While no policy is set it does nothing, not even look. The loop's thread only.
 */
#ifndef EBB_VMM_CONTROL_SWAP_AUTO_H
#define EBB_VMM_CONTROL_SWAP_AUTO_H

#include "vmm/base/event_loop.h"
#include "vmm/machine/swap_policy.h"

struct events;
struct machine;
struct swap_auto;

struct swap_auto_status {
	struct swap_policy policy;
	uint64_t now_ns;
	struct pressure_reading pressure; /* as it is now, whether it counts or not */
	double cpu_share; /* of one CPU that the guest used between the last two looks */
	/* How the operation that was started last went: 0 too while it runs or if there is none. */
	bool running;
	int result;
	struct error error;
};

/* @loop and @machine are borrowed. 0 or -errno. */
int swap_auto_create(struct event_loop *loop, struct machine *machine,
		     const struct swap_policy_config *config, struct swap_auto **out,
		     struct error *err);

/* From now on @events (borrowed; NULL: nobody) hear of its steps. */
void swap_auto_set_events(struct swap_auto *automation, struct events *events);

/* NULL is legal. */
void swap_auto_destroy(struct swap_auto *automation);

/*
 * Sets a policy at run time: a policy's text, "off", or "on" for the one that was set before. What
 * runs is left to end. 0, -ERANGE (no such policy), -ENOTSUP (no place to swap to).
 */
int swap_auto_set(struct swap_auto *automation, const char *text, struct error *err);

/* The user gave a swap command: it has the last word. NULL is legal, here and below. */
void swap_auto_user_acts(struct swap_auto *automation);

/* The user resumes the guest with its working set. */
void swap_auto_user_wakes(struct swap_auto *automation);

/* On MACHINE_EVENT_SWAP_DONE, whoever's operation it was. */
void swap_auto_operation_done(struct swap_auto *automation);

/* Whether the operation that runs was started here. */
bool swap_auto_is_running(const struct swap_auto *automation);

void swap_auto_get_status(struct swap_auto *automation, struct swap_auto_status *status);

#endif
