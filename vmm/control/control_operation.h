/*
 * The swap operation that clients of the control socket have started: one at a time. It begins with
 * a command, its progress is told, and when the worker is done what belongs to its end is done too:
 * the file of `dump-memory` is emptied if it failed, `resume --prefetch` resumes.
 *
 * The caller owns the struct, zero-initialised; main thread only.
 */
#ifndef EBB_VMM_CONTROL_CONTROL_OPERATION_H
#define EBB_VMM_CONTROL_CONTROL_OPERATION_H

#include "vmm/base/rate.h"
#include "vmm/control/commands.h"

struct control_operation {
	const struct command *command; /* NULL: none, or its end has been told */
	int file;                      /* of dump-memory; 0: none */
	char *path;                    /* what the client calls it; or NULL */
	struct rate rate;              /* in bytes */
	uint64_t resets;               /* the machine's when it began */
};

/*
 * Starts what @command, which has an operation, asks for. 0: it goes on. 1: it is done already,
 * with *answer as control_operation_finish() gives it. Else -errno with @err.
 */
int control_operation_start(struct control_operation *operation, const struct control_host *host,
			    const struct command *command, const struct control_request *request,
			    json_t **answer, struct error *err);

/* The body of a progress line. NULL: out of memory. */
json_t *control_operation_progress(struct control_operation *operation,
				   const struct swap_status *status);

/*
 * The worker is done; @status says how it went. CONTROL_OK with *answer (NULL: out of memory), or a
 * code and @err. Another operation may start.
 */
enum control_code control_operation_finish(struct control_operation *operation,
					   const struct control_host *host,
					   const struct swap_status *status, json_t **answer,
					   struct error *err);

/* The machine ends before the operation does. */
void control_operation_abandon(struct control_operation *operation);

#endif
