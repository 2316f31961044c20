/*
 * landlock(7): which files a process that opens nothing any more may still open, make or remove.
 * Tolerates kernels that have no Landlock, or an older one.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_FILES_H
#define EBB_VMM_SANDBOX_SANDBOX_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"

/* What stays possible. */
struct sandbox_file {
	const char *path; /* that does not exist is no failure */
	enum {
		SANDBOX_FILE_REMOVE,  /* what is in the directory that @path is in may be removed */
		SANDBOX_FILE_CONNECT, /* so it may, and sockets there be connected to */
		SANDBOX_FILE_READ,    /* @path may be opened for reading, and asked (ioctl) */
	} right;
};

/* The version of Landlock's interface; 0: there is none, and errno says why. */
int sandbox_files_abi(void);

/*
 * A ruleset for sandbox_files_close(), made while the paths of @files still lead to them, for the
 * version @abi: nothing may be done with files but what @files say, no TCP port be bound or connected
 * and, unless @may_signal, no signal be sent to processes without these rules, where the kernel knows
 * of that. A descriptor, or -errno with @err.
 */
int sandbox_files_prepare(int abi, const struct sandbox_file *files, size_t count, bool may_signal,
			  struct error *err);

/*
 * Binds the calling thread, and those that it starts, by @ruleset, which is closed. For good; without
 * new privileges (PR_SET_NO_NEW_PRIVS). 0, or -errno with @err.
 */
int sandbox_files_close(int ruleset, struct error *err);

#endif
