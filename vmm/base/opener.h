/*
 * Opens one file for reading, again and again, for a process that has given up the right to: a child
 * that was forked off before does it, and passes the descriptor. It ends with its parent, or sooner. What
 * is no regular file is not opened but found (O_PATH), so that fstat(2) says what it is.
 *
 * Main thread only.
 */
#ifndef EBB_VMM_BASE_OPENER_H
#define EBB_VMM_BASE_OPENER_H

#include "vmm/base/error.h"

/* Forks the child. @path is borrowed. There are no other threads yet. */
int opener_start(const char *path, struct error *err);

/* A descriptor of the caller, or -errno. For another path, and without a child, it is done here. */
int opener_open(const char *path);

/* Ends the child, if there is one. */
void opener_stop(void);

#endif
