#include "vmm/sandbox/sandbox_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/base/removal.h"

#define HARMLESS (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* The empty tree. */
struct tree {
	int fd;               /* its root */
	const char *trouble;  /* what was tried last */
	char start[PATH_MAX]; /* the working directory, there and here; "/" if no path needs it */
};

static int set_attributes(int mount, uint64_t attributes)
{
	struct mount_attr set = {.attr_set = attributes, .propagation = MS_PRIVATE};

	return mount_setattr(mount, "", AT_EMPTY_PATH, &set, sizeof(set)) ? -errno : 0;
}

/* A mount of @directory alone, which is part of no tree. A descriptor (O_PATH) or -errno. */
static int clone_directory(const char *directory)
{
	int fd = open_tree(AT_FDCWD, directory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int result;

	if (fd < 0)
		return -errno;
	result = set_attributes(fd, HARMLESS);
	if (!result)
		return fd;
	close(fd);
	return result;
}

static int keep_directory(const char *path)
{
	char directory[PATH_MAX];
	int result;
	int fd;

	if (removal_is_kept(path))
		return 0;
	removal_directory(path, directory, sizeof(directory));
	fd = clone_directory(directory);
	/* Who removed it has removed the socket, too. */
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	result = removal_keep(path, fd);
	if (result)
		close(fd);
	return result;
}

/* ---- the tree ---- */

static int make_tmpfs(struct tree *tree)
{
	int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int result = 0;

	if (context < 0)
		return -errno;
	if (fsconfig(context, FSCONFIG_SET_STRING, "mode", "0755", 0) ||
	    fsconfig(context, FSCONFIG_SET_STRING, "nr_inodes", "256", 0) ||
	    fsconfig(context, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) ||
	    fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		result = -errno;
	if (!result) {
		tree->fd = fsmount(context, FSMOUNT_CLOEXEC, HARMLESS);
		result = tree->fd < 0 ? -errno : 0;
	}
	close(context);
	return result;
}

/* @path as the process will see it. A descriptor or -errno. */
static int open_inside(const struct tree *tree, const char *path)
{
	const struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT,
	};
	long fd = syscall(SYS_openat2, tree->fd, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Directories, one in the other, so that @path, which is absolute, leads somewhere, ".." or not. */
static int make_directories(const struct tree *tree, const char *path)
{
	char text[PATH_MAX];
	char *slash = text;
	int result = 0;

	snprintf(text, sizeof(text), "%s", path);
	while (!result && *slash) {
		char *name = slash + 1;
		int parent;

		*slash = '\0';
		parent = open_inside(tree, *text ? text : "/");
		*slash = '/';
		slash = strchrnul(name, '/');
		if (parent < 0)
			return parent;
		if (slash > name) {
			char saved = *slash;

			*slash = '\0';
			/* EEXIST: "..", too. */
			if (mkdirat(parent, name, 0755) && errno != EEXIST)
				result = -errno;
			*slash = saved;
		}
		close(parent);
	}
	return result;
}

/* The directory of @path, at the same place in there. */
static int show_directory(struct tree *tree, const char *path)
{
	char directory[PATH_MAX], place[2 * PATH_MAX + 1];
	int mount = -1;
	int target;
	int result;

	removal_directory(path, directory, sizeof(directory));
	if (directory[0] != '/' && !getcwd(tree->start, sizeof(tree->start)))
		return -errno;
	snprintf(place, sizeof(place), "%s%s%s", directory[0] == '/' ? "" : tree->start,
		 directory[0] == '/' ? "" : "/", directory);
	if (strlen(place) >= PATH_MAX)
		return -ENAMETOOLONG;
	result = make_directories(tree, place);
	if (result)
		return result;
	target = open_inside(tree, place);
	if (target < 0)
		return target;
	mount = clone_directory(directory);
	if (mount < 0)
		result = mount;
	else if (move_mount(mount, "", target, "",
			    MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		result = -errno;
	if (mount >= 0)
		close(mount);
	close(target);
	return result;
}

static int fill(struct tree *tree, const struct sandbox_file *files, size_t count)
{
	int result = 0;

	for (size_t i = 0; !result && i < count; i++) {
		if (files[i].right == SANDBOX_FILE_READ)
			continue;
		tree->trouble = files[i].path;
		result = keep_directory(files[i].path);
		if (!result && files[i].right == SANDBOX_FILE_CONNECT)
			result = show_directory(tree, files[i].path);
	}
	return result;
}

/* Over the old root, which keeps on being the process's until it is turned. */
static int attach(struct tree *tree)
{
	tree->trouble = "a tmpfs";
	if (move_mount(tree->fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH))
		return -errno;
	return 0;
}

static int turn(struct tree *tree)
{
	tree->trouble = "pivot_root";
	if (syscall(SYS_pivot_root, ".", "."))
		return -errno;
	return 0;
}

static int enter(struct tree *tree)
{
	tree->trouble = "a tmpfs";
	return fchdir(tree->fd) ? -errno : 0;
}

/* The process is where it was, and so is everything else. */
static void take_back(struct tree *tree, int working_directory)
{
	if (!fchdir(tree->fd))
		umount2(".", MNT_DETACH);
	if (working_directory >= 0 && fchdir(working_directory))
		(void)!chdir("/"); /* was there a moment ago */
	removal_forget();
}

/* The old root lies over the new one now, and "." is it. */
static int leave_old_root(const struct tree *tree, struct error *err)
{
	if (umount2(".", MNT_DETACH))
		return error_errno(err, errno, "sandbox: detach the host's file systems");
	if (chdir(tree->start))
		return error_errno(err, errno, "sandbox: %.200s", tree->start);
	return 0;
}

int sandbox_tree_close(const struct sandbox_file *files, size_t count, struct error *err)
{
	struct tree tree = {.fd = -1, .trouble = "a tmpfs", .start = "/"};
	int working_directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool attached = false;
	int result = make_tmpfs(&tree);

	if (!result) {
		result = attach(&tree);
		attached = !result;
	}
	if (!result)
		result = fill(&tree, files, count);
	if (!result)
		result = make_directories(&tree, tree.start);
	if (!result)
		result = set_attributes(tree.fd, HARMLESS | MOUNT_ATTR_RDONLY);
	if (!result)
		result = enter(&tree);
	if (!result)
		result = turn(&tree);
	if (!result) {
		result = leave_old_root(&tree, err);
	} else {
		error_errno(err, -result, "%.200s", tree.trouble);
		if (attached)
			take_back(&tree, working_directory);
		result = -EOPNOTSUPP;
	}
	if (tree.fd >= 0)
		close(tree.fd);
	if (working_directory >= 0)
		close(working_directory);
	return result;
}
