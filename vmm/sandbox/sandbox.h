/*
 * What a VM gives up once everything that it needs is open, before the guest's first instruction:
 * code that a guest has taken over finds itself without files, network, capabilities and most system
 * calls. In this order:
 *
 *   limits        no guest RAM in core dumps, a bound on descriptors
 *   namespaces    of its own: mounts, network (empty), System V IPC, host name; with them, a user
 *                 namespace of its own if that is the only way. Sockets and a tap that are open stay
 *                 what they are. No PID namespace: it would be for children, of which there are none
 *   root          an empty file system (sandbox_tree.h), in these
 *   privileges    no new ones (no_new_privs), Landlock (sandbox_files.h), no capabilities
 *   system calls  seccomp, by kind of thread (sandbox_filter.h)
 *
 * Each is taken where the host gives it; `status` and `ebb check` say which these are. What was given
 * up does not come back. Main thread only.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_H
#define EBB_VMM_SANDBOX_SANDBOX_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/sandbox/sandbox_files.h"

enum sandbox_namespaces {
	SANDBOX_NO_NAMESPACES,
	SANDBOX_NAMESPACES,      /* by the capability to make them */
	SANDBOX_USER_NAMESPACES, /* in a user namespace, where other users, root too, have no number */
};

struct sandbox_layers {
	bool on;
	bool seccomp;
	int landlock_abi; /* 0: no Landlock */
	enum sandbox_namespaces namespaces;
	bool empty_root;
	bool no_new_privileges;
	uint64_t capabilities; /* that are left; bits, capabilities(7) */
};

/* What the VM still has to do once it is closed. */
struct sandbox_needs {
	const struct sandbox_file *files;
	size_t count;
	bool vsock;      /* the I/O thread connects to sockets */
	bool may_signal; /* a child may have to be killed */
};

/* What the rest of the program needs to know of it: all zero before, and with --sandbox off. */
extern struct sandbox_layers sandbox_layers;

/*
 * Closes the sandbox, or says loudly that it stays open: @enabled is false, or this build is for
 * finding bugs by means (sanitizers) that no sandbox lets pass. The process has one thread. 0, or
 * -errno with @err: then nothing may run.
 */
int sandbox_close(bool enabled, const struct sandbox_needs *needs, struct error *err);

/* The object "sandbox" of `status`. NULL: out of memory. */
json_t *sandbox_status(void);

/* What a child that tries it out finds, as in sandbox_layers. @empty_root may be NULL: not tried. */
enum sandbox_namespaces sandbox_probe_namespaces(bool *empty_root);

#endif
