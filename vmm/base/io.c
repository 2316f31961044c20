#include "vmm/base/io.h"

#include <errno.h>
#include <unistd.h>

/* Accounts for one system call's result. 1: go on, 0: all done, -errno: failed. */
static int advance(ssize_t moved, size_t *done, size_t length, int at_end)
{
	if (moved < 0)
		return errno == EINTR ? 1 : -errno;
	if (moved == 0)
		return at_end;
	*done += (size_t)moved;
	return *done < length;
}

int io_write_full(int fd, const void *buffer, size_t length)
{
	size_t done = 0;
	int more = length > 0;

	while (more > 0)
		more = advance(write(fd, (const char *)buffer + done, length - done), &done, length,
			       -EIO);
	return more;
}

int io_pread_full(int fd, void *buffer, size_t length, off_t offset)
{
	size_t done = 0;
	int more = length > 0;

	while (more > 0)
		more = advance(
			pread(fd, (char *)buffer + done, length - done, offset + (off_t)done),
			&done, length, -ENODATA);
	return more;
}

int io_pwrite_full(int fd, const void *buffer, size_t length, off_t offset)
{
	size_t done = 0;
	int more = length > 0;

	while (more > 0)
		more = advance(pwrite(fd, (const char *)buffer + done, length - done,
				      offset + (off_t)done),
			       &done, length, -EIO);
	return more;
}
