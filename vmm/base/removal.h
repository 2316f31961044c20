/*
 * Removes files whose directories the process can no longer reach by path: descriptors of these
 * directories are kept, by the text of their paths. Without one, the path is what it always is. Main
 * thread only, errors as of unlink(2) and its like. Whoever keeps a descriptor here keeps it for good.
 */
#ifndef EBB_VMM_BASE_REMOVAL_H
#define EBB_VMM_BASE_REMOVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* The directory that @path is in, as @path says it: "." if that names none. */
void removal_directory(const char *path, char *directory, size_t size);

/* @fd, which leads to the directory that @path is in, is this module's from now on. 0 or -errno. */
int removal_keep(const char *path, int fd);

/* True if the directory of @path has its descriptor. */
bool removal_is_kept(const char *path);

/* Forgets, and closes, all of them. */
void removal_forget(void);

int removal_unlink(const char *path);
int removal_lstat(const char *path, struct stat *info);

/* Whether the process's rights let it remove from the directory of @path. */
bool removal_is_allowed(const char *path);

#endif
