/*
 * Commands as a person or a script types them, sent to one VM and their answers shown: what `ebb
 * ctl` and `ebb console` have in common.
 */
#ifndef EBB_VMM_CLIENT_CONTROL_SESSION_H
#define EBB_VMM_CLIENT_CONTROL_SESSION_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/client/control_client.h"

struct control_session {
	const char *name;
	const char *path; /* NULL: the default place */
	struct control_client *client;
	bool json;           /* print the protocol's lines instead of tables */
	bool interrupt_ends; /* SIGINT ends the program where there is nothing to cancel */
	/* Of the call that runs: */
	bool cancellable;
	bool follows; /* events: SIGINT ends that */
	bool progress_shown;
};

/* What became of a command. */
enum control_outcome {
	CONTROL_DONE = 0,
	CONTROL_REFUSED = 1, /* said on standard error, as the next two */
	CONTROL_USAGE = 2,
	CONTROL_GONE = 3, /* the VM ended, or cannot be understood */
};

/* Connects. 0, or -errno with @err. */
int control_session_open(struct control_session *session, struct error *err);
void control_session_close(struct control_session *session);

/*
 * Runs the command that @words spell, showing progress on standard error (if that is a terminal)
 * and the answer on standard output. SIGINT cancels a swap operation, if
 * control_client_catch_interrupt() was called. @prefix begins messages.
 */
enum control_outcome control_session_run(struct control_session *session, const char *prefix,
					 const char *const *words, size_t count);

#endif
