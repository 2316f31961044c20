#include <stdio.h>
#include <sys/eventfd.h>

#include "vmm/base/clock.h"
#include "vmm/machine/machine_internal.h"

void machine_post_event(struct machine *machine, enum machine_event event)
{
	atomic_fetch_or(&machine->pending_events, 1u << event);
	eventfd_write(machine->event_fd, 1);
}

int machine_event_fd(const struct machine *machine)
{
	return machine->event_fd;
}

enum machine_event machine_next_event(struct machine *machine)
{
	/* What ends the machine comes before what does not. */
	static const enum machine_event order[] = {
		MACHINE_EVENT_PANIC, /* it has led to what follows */
		MACHINE_EVENT_RESET_FAILED, MACHINE_EVENT_CRASH,      MACHINE_EVENT_POWEROFF,
		MACHINE_EVENT_RESET,        MACHINE_EVENT_SWAP_FATAL, MACHINE_EVENT_SWAP_DONE,
		MACHINE_EVENT_BALLOON,
	};
	eventfd_t count;

	/* Emptied before looking, so that a bit set from now on makes it readable again. */
	eventfd_read(machine->event_fd, &count);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		unsigned bit = 1u << order[i];

		if (atomic_fetch_and(&machine->pending_events, ~bit) & bit) {
			if (atomic_load(&machine->pending_events))
				eventfd_write(machine->event_fd, 1);
			return order[i];
		}
	}
	return MACHINE_EVENT_NONE;
}

const char *machine_crash_reason(const struct machine *machine)
{
	return machine->crash_reason;
}

void machine_on_first_run(void *opaque)
{
	struct machine *machine = opaque;

	pthread_mutex_lock(&machine->lock);
	if (!machine->first_run_ns)
		machine->first_run_ns = clock_monotonic_ns() - machine->process_start_ns;
	pthread_mutex_unlock(&machine->lock);
}

/*
 * The guest wants @event. It must not run on meanwhile: after a reset pulse Linux tries harsher
 * ways, a triple fault among them.
 */
static void request(struct machine *machine, enum machine_event event, const char *reason)
{
	bool first;

	pthread_mutex_lock(&machine->lock);
	vcpus_hold(machine->vcpus);
	first = machine->guest_request == MACHINE_EVENT_NONE;
	if (first) {
		machine->guest_request = event;
		if (event == MACHINE_EVENT_CRASH)
			snprintf(machine->crash_reason, sizeof(machine->crash_reason), "%s",
				 reason);
		if (event != MACHINE_EVENT_RESET) {
			machine->state = MACHINE_STOPPED;
			snprintf(machine->reason, sizeof(machine->reason), "%s", reason);
		}
	}
	pthread_mutex_unlock(&machine->lock);
	if (first)
		machine_post_event(machine, event);
}

void machine_on_guest_reset(void *opaque)
{
	request(opaque, MACHINE_EVENT_RESET, "");
}

void machine_on_guest_poweroff(void *opaque)
{
	request(opaque, MACHINE_EVENT_POWEROFF, "the guest powered down");
}

void machine_on_guest_crash(void *opaque, const char *reason)
{
	request(opaque, MACHINE_EVENT_CRASH, reason);
}

/* The first time counts: a guest may say it as often as it likes. */
void machine_on_guest_panic(void *opaque, bool crash_loaded)
{
	struct machine *machine = opaque;
	bool news;

	pthread_mutex_lock(&machine->lock);
	news = crash_loaded ? !machine->crash_loaded : !machine->panicked;
	machine->panicked = true;
	machine->crash_loaded = machine->crash_loaded || crash_loaded;
	pthread_mutex_unlock(&machine->lock);
	if (news)
		machine_post_event(machine, MACHINE_EVENT_PANIC);
}

void machine_on_balloon(void *opaque)
{
	machine_post_event(opaque, MACHINE_EVENT_BALLOON);
}

void machine_on_swap_done(void *opaque)
{
	machine_post_event(opaque, MACHINE_EVENT_SWAP_DONE);
}

void machine_on_swap_fatal(void *opaque, const char *reason)
{
	struct machine *machine = opaque;

	pthread_mutex_lock(&machine->lock);
	atomic_store(&machine->stuck, true);
	if (machine->state != MACHINE_STOPPED)
		snprintf(machine->reason, sizeof(machine->reason), "%s", reason);
	if (machine->vcpus) {
		vcpus_hold(machine->vcpus);
		vcpus_abandon(machine->vcpus);
	}
	pthread_mutex_unlock(&machine->lock);
	machine_post_event(machine, MACHINE_EVENT_SWAP_FATAL);
}
