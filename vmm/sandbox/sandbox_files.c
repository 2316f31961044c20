#include "vmm/sandbox/sandbox_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than some distributions' headers, where struct landlock_ruleset_attr is shorter, too. */
#define FS_ABI_1    ((1ull << 13) - 1)
#define FS_REFER    (1ull << 13) /* ABI 2 */
#define FS_TRUNCATE (1ull << 14) /* 3 */
#define FS_IOCTL    (1ull << 15) /* 5 */
#define NET_ALL     3ull         /* 4: bind and connect TCP */
#define SCOPE_ALL   3ull         /* 6: abstract sockets, signals */

struct ruleset {
	uint64_t files;
	uint64_t net;
	uint64_t scope;
};

int sandbox_files_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* Everything that this kernel can forbid. */
static struct ruleset all_of(int abi, size_t *size)
{
	struct ruleset all = {.files = FS_ABI_1};

	*size = sizeof(all.files);
	if (abi >= 2)
		all.files |= FS_REFER;
	if (abi >= 3)
		all.files |= FS_TRUNCATE;
	if (abi >= 5)
		all.files |= FS_IOCTL;
	if (abi >= 4) {
		all.net = NET_ALL;
		*size = 2 * sizeof(uint64_t);
	}
	if (abi >= 6) {
		all.scope = SCOPE_ALL;
		*size = 3 * sizeof(uint64_t);
	}
	return all;
}

/* What a rule is attached to: @path itself, or the directory that it is in. */
static void place_of(const struct sandbox_file *file, char *place, size_t size)
{
	const char *slash = strrchr(file->path, '/');

	if (file->right == SANDBOX_FILE_READ)
		snprintf(place, size, "%s", file->path);
	else if (!slash)
		snprintf(place, size, ".");
	else
		snprintf(place, size, "%.*s", slash == file->path ? 1 : (int)(slash - file->path),
			 file->path);
}

static int allow(int ruleset, const struct sandbox_file *file)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = file->right == SANDBOX_FILE_READ ? LANDLOCK_ACCESS_FS_READ_FILE
								   : LANDLOCK_ACCESS_FS_REMOVE_FILE,
	};
	char place[PATH_MAX];
	int result = 0;

	place_of(file, place, sizeof(place));
	rule.parent_fd = open(place, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		result = -errno;
	close(rule.parent_fd);
	return result;
}

int sandbox_files_close(int abi, const struct sandbox_file *files, size_t count, struct error *err)
{
	size_t size;
	const struct ruleset all = all_of(abi, &size);
	int fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0);
	int result = 0;

	if (fd < 0)
		return error_errno(err, errno, "sandbox: landlock_create_ruleset");
	for (size_t i = 0; !result && i < count; i++) {
		result = allow(fd, &files[i]);
		if (result)
			error_errno(err, -result, "sandbox: a Landlock rule for %.200s",
				    files[i].path);
	}
	if (!result && syscall(SYS_landlock_restrict_self, fd, 0))
		result = error_errno(err, errno, "sandbox: landlock_restrict_self");
	close(fd);
	return result;
}
