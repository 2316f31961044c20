/*
 * Many machines asked at once, from one thread with one poll(): `ebb ls`, `ebb swap`.
 *
 * Each machine is asked a row of questions, one after another, on a connection of its own. One that
 * is not there, refuses, ends or does not answer is told of, and holds up no other: of those that are
 * silent for FLEET_QUIET_NS none counts for how many may work at a time.
 */
#ifndef EBB_VMM_CLIENT_FLEET_H
#define EBB_VMM_CLIENT_FLEET_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmm/control/control_protocol.h"
#include "vmm/machine/config.h"

#define FLEET_QUIET_NS  1000000000ull
#define FLEET_RETRY_NS  50000000ull /* until a machine that was slow to accept is tried again */
#define FLEET_LINE_MAX  (4u << 20)
#define FLEET_NAMES_MAX 4096u

enum fleet_outcome {
	FLEET_ANSWERED, /* with result */
	FLEET_REFUSED,  /* with code and error */
	FLEET_ABSENT,   /* nobody listens: no such machine, or one that was killed */
	FLEET_SILENT,   /* it listens, but does not answer in time */
	FLEET_ENDED,    /* while the answer was awaited */
	FLEET_FAILED,   /* anything else, see error */
	FLEET_SKIPPED,  /* it was not asked (any more): interrupted */
};

struct fleet_name {
	char text[VM_NAME_MAX + 1];
};

struct fleet_answer {
	enum fleet_outcome outcome;
	const json_t *result;
	enum control_code code;
	struct error error; /* but for FLEET_ANSWERED */
	pid_t pid;          /* of the machine; 0: not known */
};

struct fleet {
	const struct fleet_name *names;
	size_t count;
	unsigned jobs;       /* at work at the same time */
	uint64_t timeout_ns; /* without any word */
	/*
	 * Readable when SIGINT came (a signalfd; -1: none). The first cancels what runs and starts
	 * nothing more, the second ends fleet_run().
	 */
	int interrupt_fd;
	void *opaque;
	/*
	 * What to ask machine @index, after @answer to the question before (NULL: this is the first).
	 * NULL: nothing more. After another outcome than FLEET_ANSWERED it is the last call for this
	 * machine. The string is not freed.
	 */
	const char *(*ask)(void *opaque, size_t index, const struct fleet_answer *answer);
};

/* 0 when each machine is done; -EINTR, or another -errno with @err. */
int fleet_run(const struct fleet *fleet, struct error *err);

/*
 * The names of all machines of this user, from the sockets in the default directory, sorted, and
 * those of the system's service that the user reaches; some may be left from machines that were killed. To be freed. 0 (also without any) or -errno with @err.
 */
int fleet_discover(struct fleet_name **names, size_t *count, struct error *err);

#endif
