/*
 * What happens to a machine, as it happens: `ebb ctl NAME events`, and whoever else listens.
 *
 * An event is a line {"event":{"type":"…","time_ns":N,"sequence":N,…}}: time_ns is CLOCK_REALTIME,
 * sequence counts the events of this ebb from 1 on. The types and their other members:
 *
 *   state          state, was ("created", "running", "paused", "stopped"), reason ("" if the user
 *                  asked for it; of "stopped": "the guest powered down", "quit", …)
 *   reset          resets (so far): the guest began anew, because it or the user wanted that
 *   swap_started   operation, command (as in a report of vmm/control/commands.h), by ("user", "auto")
 *   swap_ended     the members of a report (result, message, cancelled, pages_moved, duration_ns, …),
 *                  by, state (of swap, now)
 *   swap_trouble   reason: guest memory cannot be provided, the machine is paused (`state` follows)
 *   guest_panicked crash_loaded (true: the guest has a crash kernel loaded that takes over): its
 *                  kernel said so through pvpanic. Once until it is reset
 *   balloon        target_bytes, actual_bytes, guest_bytes (what the target leaves it). While the
 *                  guest is at work, some steps are left out; never the last one
 *   auto           phase, was (see `swap auto`), policy, cause ("idle", "pressure": why the cycle
 *                  began): a step of the automatic policy
 *   log            level ("error", "warning"), message: what ebb says on standard error
 *
 * Two more are only for the client that they are sent to, and no event of their own:
 *
 *   subscribed     the first line: name, state, reason, panicked, swap (its state); sequence is that
 *                  of the last event before
 *   lost           count: so many events were dropped because the client did not read; sequence is
 *                  that of the last of them
 *
 * The last EVENTS_KEPT events are kept for readers that are slow or come later; nothing else grows.
 * Main thread only, except that any thread may log. Every function tolerates a NULL @events.
 */
#ifndef EBB_VMM_CONTROL_EVENTS_H
#define EBB_VMM_CONTROL_EVENTS_H

#include <jansson.h>
#include <stdint.h>

#include "swap/swap.h"
#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/swap_policy.h"

#define EVENTS_KEPT          256u
#define EVENTS_LISTENERS_MAX 4u
#define EVENTS_BALLOON_NS    200000000ull /* between two events of the balloon */

struct events;
struct machine;

/*
 * @loop and @machine are borrowed; the machine is as it is: what is so now is no event. Until
 * events_destroy(), errors and warnings that are logged become events too (one per process). 0 or
 * -errno.
 */
int events_create(struct event_loop *loop, struct machine *machine, struct events **out,
		  struct error *err);

/* No other thread may log any more. */
void events_destroy(struct events *events);

/*
 * Takes the reference to @members, an object of what the event has besides type, time and sequence.
 * NULL, what a json_pack() out of memory returns: a lost event.
 */
void events_emit(struct events *events, const char *type, json_t *members);

/* @heard(@opaque) is called after each event; it must not cause another. 0 or -ENOSPC. */
int events_listen(struct events *events, void (*heard)(void *opaque), void *opaque);

/* The sequence of the last event; 0: there was none yet. */
uint64_t events_last(const struct events *events);

/*
 * The next line, with its newline, for a reader that has had all events up to *sequence, which is
 * moved on: an event or "lost". To be freed. NULL: there is none (or no memory).
 */
char *events_next(const struct events *events, uint64_t *sequence);

/* A line that is for one client: no listener hears of it. Takes the reference to @members. */
char *events_format(const char *type, uint64_t sequence, json_t *members);

/*
 * What follows is told where it happens; it looks what is different now and makes the events of it.
 */

/* State, reason, resets, panic, balloon. */
void events_look(struct events *events);

/* The balloon alone, and not too often. */
void events_look_at_balloon(struct events *events);

/* Whether an operation has ended. */
void events_look_at_swap(struct events *events);

void events_look_at_policy(struct events *events, const struct swap_policy *policy);

/* @by: "user" or "auto". */
void events_swap_started(struct events *events, enum swap_operation operation, const char *by);

/* On MACHINE_EVENT_SWAP_FATAL. */
void events_swap_trouble(struct events *events);

/* The machine is about to be stopped; @reason if it has not stopped by itself. */
void events_end(struct events *events, const char *reason);

#endif
