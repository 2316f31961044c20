/*
 * The file that `dump-memory` makes, by the client that asks for it. It never replaces another,
 * and does not stay half-written.
 */
#ifndef EBB_VMM_CONTROL_DUMP_FILE_H
#define EBB_VMM_CONTROL_DUMP_FILE_H

#include "vmm/base/error.h"

struct dump_file;

/*
 * Creates @path, an absolute path at which there is nothing, readable by its owner alone. *fd is
 * for writing and the caller's. 0, -ERANGE (no absolute path), -EEXIST, -errno.
 */
int dump_file_create(const char *path, struct dump_file **out, int *fd, struct error *err);

/* The file is complete and stays. Frees @file. NULL is legal. */
void dump_file_keep(struct dump_file *file);

/* Removes the file, unless something else has taken its name. Frees @file. NULL is legal. */
void dump_file_discard(struct dump_file *file);

#endif
