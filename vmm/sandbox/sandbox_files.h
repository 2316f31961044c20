/*
 * landlock(7): which files a process that opens nothing any more may still open, make or remove.
 * Tolerates kernels that have no Landlock, or an older one.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_FILES_H
#define EBB_VMM_SANDBOX_SANDBOX_FILES_H

#include <stddef.h>

#include "vmm/base/error.h"

/* What stays possible. */
struct sandbox_file {
	const char *path; /* that does not exist is no failure */
	enum {
		SANDBOX_FILE_REMOVE, /* what is in the directory that @path is in may be removed */
		SANDBOX_FILE_READ,   /* @path may be opened for reading */
	} right;
};

/* The version of Landlock's interface; 0: there is none, and errno says why. */
int sandbox_files_abi(void);

/*
 * The calling thread, and those that it starts, may do nothing with files but what @files say, and
 * neither bind nor connect TCP ports where the kernel knows of that (@abi: sandbox_files_abi()). For
 * good; without new privileges (PR_SET_NO_NEW_PRIVS). 0, or -errno with @err.
 */
int sandbox_files_close(int abi, const struct sandbox_file *files, size_t count, struct error *err);

#endif
