/*
 * read and write that finish: EINTR and short transfers are continued. Blocking descriptors only.
 */
#ifndef EBB_BASE_IO_H
#define EBB_BASE_IO_H

#include <stddef.h>
#include <sys/types.h>

/* Each returns 0 when all @length bytes moved, else -errno; a read that meets end of file:
 * -ENODATA. */
int io_write_full(int fd, const void *buffer, size_t length);
int io_pread_full(int fd, void *buffer, size_t length, off_t offset);
int io_pwrite_full(int fd, const void *buffer, size_t length, off_t offset);

#endif
