#include <string.h>

#include "vmm/control/commands.h"
#include "vmm/control/commands_internal.h"
#include "vmm/control/control_protocol.h"
#include "vmm/control/events_internal.h"
#include "vmm/machine/machine.h"

static void look_at_state(struct events *events, const struct machine_status *now)
{
	const struct machine_status *seen = &events->machine_seen;

	if (now->state == seen->state && !strcmp(now->reason, seen->reason))
		return;
	events_emit(events, "state",
		    json_pack("{s:s,s:s,s:o}", "state", machine_state_name(now->state), "was",
			      machine_state_name(seen->state), "reason",
			      control_json_string(now->reason)));
}

static void look_at_resets(struct events *events, const struct machine_status *now)
{
	if (now->resets != events->machine_seen.resets)
		events_emit(events, "reset",
			    json_pack("{s:I}", "resets", commands_number(now->resets)));
}

static void look_at_panic(struct events *events, const struct machine_status *now)
{
	const struct machine_status *seen = &events->machine_seen;

	if ((now->panicked && !seen->panicked) || (now->crash_loaded && !seen->crash_loaded))
		events_emit(events, "guest_panicked",
			    json_pack("{s:b}", "crash_loaded", now->crash_loaded));
}

static void balloon_differs(struct events *events, const struct machine_balloon_status *now)
{
	const struct machine_balloon_status *seen = &events->machine_seen.balloon;
	uint64_t memory = events->machine_seen.memory_bytes;

	if (now->target_bytes == seen->target_bytes && now->actual_bytes == seen->actual_bytes)
		return;
	events_emit(
		events, "balloon",
		json_pack("{s:I,s:I,s:I}", "target_bytes", commands_number(now->target_bytes),
			  "actual_bytes", commands_number(now->actual_bytes), "guest_bytes",
			  commands_number(memory > now->target_bytes ? memory - now->target_bytes
								     : 0)));
}

void events_look(struct events *events)
{
	struct machine_status now;

	if (!events)
		return;
	machine_get_status(events->machine, &now);
	/* What led to a state comes before it. */
	look_at_resets(events, &now);
	look_at_panic(events, &now);
	look_at_state(events, &now);
	balloon_differs(events, &now.balloon);
	events->machine_seen = now;
}

static void look_at_balloon(struct events *events)
{
	struct machine_status now;

	events->balloon_moved = false;
	machine_get_status(events->machine, &now);
	balloon_differs(events, &now.balloon);
	events->machine_seen.balloon = now.balloon;
	events->balloon_rests = !event_source_arm(events->balloon_timer, EVENTS_BALLOON_NS, 0);
}

void events_look_at_balloon(struct events *events)
{
	if (!events)
		return;
	if (events->balloon_rests)
		events->balloon_moved = true;
	else
		look_at_balloon(events);
}

static void on_balloon_timer(void *opaque, uint32_t mask)
{
	struct events *events = opaque;

	(void)mask;
	events->balloon_rests = false;
	if (events->balloon_moved)
		look_at_balloon(events);
}

/* Tells of the end of the operation that was told to have started, which has ended. */
static void tell_swap_end(struct events *events, const struct swap_status *status)
{
	const struct swap_operation_report *report = &status->last[events->operation];
	json_t *members;

	if (report->operation != events->operation)
		report = &status->current; /* it never got as far as to be remembered */
	members = commands_report(report, status->page_size);

	if (members &&
	    (json_object_set_new(members, "by", json_string(events->operation_by)) ||
	     json_object_set_new(members, "state", json_string(swap_state_name(status->state))))) {
		json_decref(members);
		members = NULL;
	}
	events->operation = SWAP_OP_NONE;
	events_emit(events, "swap_ended", members);
}

void events_look_at_swap(struct events *events)
{
	struct swap_status status;

	if (!events || events->operation == SWAP_OP_NONE)
		return;
	swap_get_status(machine_swap(events->machine), &status);
	if (!status.current.running)
		tell_swap_end(events, &status);
}

void events_swap_started(struct events *events, enum swap_operation operation, const char *by)
{
	struct swap_status status;

	if (!events)
		return;
	/* Its end was not noticed before the next one started. */
	if (events->operation != SWAP_OP_NONE) {
		swap_get_status(machine_swap(events->machine), &status);
		tell_swap_end(events, &status);
	}
	events->operation = operation;
	events->operation_by = by;
	events_emit(events, "swap_started",
		    json_pack("{s:s,s:s,s:s}", "operation", commands_operation_key(operation),
			      "command", commands_operation_command(operation), "by", by));
}

void events_swap_trouble(struct events *events)
{
	struct machine_status status;

	if (!events)
		return;
	machine_get_status(events->machine, &status);
	if (status.state == MACHINE_PAUSED)
		events_emit(events, "swap_trouble",
			    json_pack("{s:o}", "reason", control_json_string(status.reason)));
	events_look(events);
}

void events_look_at_policy(struct events *events, const struct swap_policy *policy)
{
	char text[SWAP_POLICY_TEXT_MAX];

	if (!events || policy->phase == events->phase_seen)
		return;
	events_emit(events, "auto",
		    json_pack("{s:s,s:s,s:s,s:s}", "phase", swap_policy_phase_name(policy->phase),
			      "was", swap_policy_phase_name(events->phase_seen), "policy",
			      swap_policy_format(&policy->config, text), "cause",
			      swap_policy_cause_name(policy->cause)));
	events->phase_seen = policy->phase;
}

void events_end(struct events *events, const char *reason)
{
	if (!events)
		return;
	events_read_log(events);
	events_look_at_swap(events);
	events_look(events);
	if (events->machine_seen.state != MACHINE_STOPPED)
		events_emit(events, "state",
			    json_pack("{s:s,s:s,s:o}", "state", machine_state_name(MACHINE_STOPPED),
				      "was", machine_state_name(events->machine_seen.state),
				      "reason", control_json_string(reason)));
}

int events_machine_init(struct events *events, struct event_loop *loop)
{
	machine_get_status(events->machine, &events->machine_seen);
	return event_loop_add_timer(loop, on_balloon_timer, events, &events->balloon_timer);
}

void events_machine_release(struct events *events)
{
	event_source_remove(events->balloon_timer);
}
