/*
 * seccomp(2): which system calls a thread may make. One filter for each kind of thread, compiled at
 * build time from the table in sandbox_rules.c. A thread that makes another call is told in the log,
 * with the call's name, and the process dies by SIGSYS.
 *
 * A thread has the filters of the one that started it, too. So that everybody gets his own and no
 * other, all threads are started by the *nursery*, a thread that does nothing else.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_FILTER_H
#define EBB_VMM_SANDBOX_SANDBOX_FILTER_H

#include <stdbool.h>

#include "vmm/base/error.h"

enum sandbox_kind {
	SANDBOX_MAIN,    /* control socket, console, metrics, the machine's life */
	SANDBOX_VCPU,    /* "vcpu N" */
	SANDBOX_IO,      /* "io": virtqueues and device state */
	SANDBOX_MONITOR, /* "ebb-monitor": answers page faults */
	SANDBOX_WORKER,  /* "ebb-swap": operations, and the crews that help with them */
	SANDBOX_DISK,    /* "swap-io", "block-io": blocking transfers on open files */
	SANDBOX_NURSERY, /* "nursery" */
	SANDBOX_KINDS,
};

/* Stands for the process's own number in the filters, until they are loaded. */
#define SANDBOX_OWN_PID 0x7ebb91d0u

/* The kernel can do it: 0 or -errno. */
int sandbox_filter_probe(void);

/*
 * Starts the nursery, which thread_start() goes through from now on, and confines the calling thread,
 * the main one, for good. There are no other threads yet. @vsock: the I/O thread connects to sockets.
 * 0, or -errno with @err.
 */
int sandbox_filter_close(bool vsock, struct error *err);

/* "vcpu", …: also the name of a thread of that kind, if all of them have one. */
const char *sandbox_kind_name(enum sandbox_kind kind);

#endif
