/*
 * Files of /proc that are read again and again, by a process that may lose the right to open files:
 * each stays open once proc_file_keep() was called. Main thread only.
 */
#ifndef EBB_VMM_BASE_PROC_FILE_H
#define EBB_VMM_BASE_PROC_FILE_H

#include <stdbool.h>
#include <stddef.h>

struct proc_file {
	const char *path;
	int kept; /* descriptor; 0: opened for each read */
};

/* Opens it, for good. One that does not exist, or may not be read, stays as it is. */
void proc_file_keep(struct proc_file *file);

/* The first @size - 1 bytes of what it says now. False: nothing. */
bool proc_file_read(const struct proc_file *file, char *text, size_t size);

#endif
