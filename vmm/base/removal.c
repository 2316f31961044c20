#include "vmm/base/removal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/unix_socket.h"

#define KEPT_MAX 8u

static struct {
	char directory[UNIX_SOCKET_PATH_MAX];
	int fd;
} kept[KEPT_MAX];

static size_t kept_count;

void removal_directory(const char *path, char *directory, size_t size)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		snprintf(directory, size, ".");
	else
		snprintf(directory, size, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* The descriptor of the directory of @path, with *name in there; else AT_FDCWD with all of @path. */
static int find(const char *path, const char **name)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');

	*name = path;
	removal_directory(path, directory, sizeof(directory));
	for (size_t i = 0; i < kept_count; i++) {
		if (strcmp(kept[i].directory, directory) != 0)
			continue;
		*name = slash ? slash + 1 : path;
		return kept[i].fd;
	}
	return AT_FDCWD;
}

int removal_keep(const char *path, int fd)
{
	char directory[PATH_MAX];

	removal_directory(path, directory, sizeof(directory));
	if (kept_count == KEPT_MAX)
		return -ENOSPC;
	if (strlen(directory) >= sizeof(kept[0].directory))
		return -ENAMETOOLONG;
	memcpy(kept[kept_count].directory, directory, strlen(directory) + 1);
	kept[kept_count++].fd = fd;
	return 0;
}

bool removal_is_kept(const char *path)
{
	const char *name;

	return find(path, &name) != AT_FDCWD;
}

void removal_forget(void)
{
	while (kept_count)
		close(kept[--kept_count].fd);
}

int removal_unlink(const char *path)
{
	const char *name;
	int directory = find(path, &name);

	return unlinkat(directory, name, 0);
}

int removal_lstat(const char *path, struct stat *info)
{
	const char *name;
	int directory = find(path, &name);

	return fstatat(directory, name, info, AT_SYMLINK_NOFOLLOW);
}

bool removal_is_allowed(const char *path)
{
	char text[PATH_MAX];
	const char *name;
	int directory = find(path, &name);

	if (directory != AT_FDCWD)
		return !faccessat(directory, ".", W_OK | X_OK, AT_EACCESS);
	removal_directory(path, text, sizeof(text));
	return !faccessat(AT_FDCWD, text, W_OK | X_OK, AT_EACCESS);
}
