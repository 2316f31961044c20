/*
 * The file system that a process sees which opens nothing any more: an empty one. Landlock says
 * nothing of connecting to sockets by path, and the processes behind those run what they are told. So
 * the mount namespace gets a root that is empty, read-only, and in memory; the old one is detached, so
 * that it keeps no file system of the host from going either.
 *
 * Files are removed through descriptors of their directories (removal.h), each of them in a mount of
 * its own that is part of no tree: from there no path leads anywhere, ".." included.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_TREE_H
#define EBB_VMM_SANDBOX_SANDBOX_TREE_H

#include "vmm/base/error.h"
#include "vmm/sandbox/sandbox_files.h"

/*
 * In a mount namespace of our own, whose mounts propagate nowhere. What @files let the process
 * remove stays removable; the directory of the file that it connects beside is there, at the same
 * path, without what is mounted below it. 0; -EOPNOTSUPP: not on this host, and nothing has changed,
 * @err says why; any other -errno with @err: broken, nothing may run.
 */
int sandbox_tree_close(const struct sandbox_file *files, size_t count, struct error *err);

#endif
