#include "vmm/control/dump_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct dump_file {
	struct stat identity;
	char path[PATH_MAX];
};

static int refuse(const char *path, int errnum, struct error *err)
{
	if (errnum == EEXIST)
		return error_say(err, EEXIST,
				 "dump-memory: %.200s exists; remove it or give another name",
				 path);
	return error_errno(err, errnum, "dump-memory: create %.200s", path);
}

int dump_file_create(const char *path, struct dump_file **out, int *fd, struct error *err)
{
	struct dump_file *file;
	int result;

	if (path[0] != '/' || strlen(path) >= sizeof(file->path))
		return error_say(err, ERANGE,
				 "dump-memory: \"%.200s\" is no absolute path of at most %d bytes",
				 path, PATH_MAX - 1);
	file = malloc(sizeof(*file));
	if (!file)
		return error_errno(err, ENOMEM, "dump-memory");
	*fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd < 0) {
		result = refuse(path, errno, err);
		goto free_file;
	}
	if (fstat(*fd, &file->identity)) {
		result = refuse(path, errno, err);
		goto remove_file;
	}
	memcpy(file->path, path, strlen(path) + 1);
	*out = file;
	return 0;

remove_file:
	unlink(path);
	close(*fd);
free_file:
	free(file);
	return result;
}

void dump_file_keep(struct dump_file *file)
{
	free(file);
}

void dump_file_discard(struct dump_file *file)
{
	struct stat now;

	if (!file)
		return;
	if (!lstat(file->path, &now) && now.st_dev == file->identity.st_dev &&
	    now.st_ino == file->identity.st_ino)
		unlink(file->path);
	free(file);
}
