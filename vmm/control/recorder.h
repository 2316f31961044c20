/*
 * Keeps a VM's history (history.h) up to date: looks at the machine once a second at first, more and
 * more seldom as the spans grow, at last once in 10 s, and whenever a swap operation ends. A look
 * takes microseconds. The loop's thread only.
 */
#ifndef EBB_VMM_CONTROL_RECORDER_H
#define EBB_VMM_CONTROL_RECORDER_H

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"

struct history;
struct history_input;
struct machine;
struct recorder;

/* @loop and @machine are borrowed. 0 or -errno. */
int recorder_create(struct event_loop *loop, struct machine *machine, struct recorder **out,
		    struct error *err);

/* NULL is legal. */
void recorder_destroy(struct recorder *recorder);

/* Notes what there is now, and the operations that have ended. NULL is legal. */
void recorder_look(struct recorder *recorder);

const struct history *recorder_history(const struct recorder *recorder);

/* What the last look saw. */
const struct history_input *recorder_last(const struct recorder *recorder);

#endif
