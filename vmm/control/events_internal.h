/*
 * What vmm/control/events*.c share: events.c keeps the events and the log's, events_machine.c
 * looks at the machine.
 */
#ifndef EBB_VMM_CONTROL_EVENTS_INTERNAL_H
#define EBB_VMM_CONTROL_EVENTS_INTERNAL_H

#include <stdbool.h>

#include "vmm/control/events.h"
#include "vmm/machine/machine.h"

struct events {
	struct machine *machine;
	/* Event N is kept[N % EVENTS_KEPT], a line; NULL: there was no memory for it. */
	char *kept[EVENTS_KEPT];
	uint64_t last;
	struct {
		void (*heard)(void *opaque);
		void *opaque;
	} listeners[EVENTS_LISTENERS_MAX];
	size_t listener_count;

	int log_fds[2]; /* a pipe of packets */
	struct event_source *log_source;

	/* As of the last look. */
	struct machine_status machine_seen;
	enum swap_policy_phase phase_seen;
	enum swap_operation operation; /* that has started and not ended; SWAP_OP_NONE */
	const char *operation_by;
	struct event_source *balloon_timer;
	bool balloon_rests; /* the timer runs */
	bool balloon_moved; /* meanwhile */
};

/* Makes events of what was logged. */
void events_read_log(struct events *events);

/* 0 or -errno. */
int events_machine_init(struct events *events, struct event_loop *loop);
void events_machine_release(struct events *events);

#endif
