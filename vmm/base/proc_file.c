#include "vmm/base/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

void proc_file_keep(struct proc_file *file)
{
	int fd = file->kept ? -1 : open(file->path, O_RDONLY | O_CLOEXEC);

	if (fd > 0)
		file->kept = fd;
}

bool proc_file_read(const struct proc_file *file, char *text, size_t size)
{
	int fd = file->kept ? file->kept : open(file->path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return false;
	length = pread(fd, text, size - 1, 0); /* from the beginning: made anew */
	if (!file->kept)
		close(fd);
	if (length <= 0)
		return false;
	text[length] = '\0';
	return true;
}
