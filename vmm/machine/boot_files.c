#include "vmm/machine/boot_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/log.h"

#define DISK_SUFFIX ".raw"
#define CMDLINE_MAX 4096u /* more than any kernel takes */

/* "dir/debian.raw" and ".initrd" give "dir/debian.initrd" in *@out. 0 or -ENOMEM. */
static int beside(const char *disk, const char *suffix, char **out)
{
	int stem = (int)(strlen(disk) - strlen(DISK_SUFFIX));

	return asprintf(out, "%.*s%s", stem, disk, suffix) < 0 ? -ENOMEM : 0;
}

/* As beside(), but NULL if there is no such file. What else is wrong with it shows when it is read. */
static int find_beside(const char *disk, const char *suffix, char **out)
{
	char *path;
	int result = beside(disk, suffix, &path);

	if (result)
		return result;
	if (access(path, F_OK) && errno == ENOENT) {
		free(path);
		path = NULL;
	}
	*out = path;
	return 0;
}

/* One line of text without its newline, into @text of CMDLINE_MAX + 1 bytes. */
static int read_line(const char *path, char *text, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t length;
	int result = 0;

	if (fd < 0)
		return error_errno(err, errno, "%s: open", path);
	length = read(fd, text, CMDLINE_MAX + 1);
	if (length < 0)
		result = error_errno(err, errno, "%s: read", path);
	close(fd);
	if (result)
		return result;
	if (length > 0 && text[length - 1] == '\n')
		length--;
	if (length > CMDLINE_MAX || memchr(text, '\n', (size_t)length) ||
	    memchr(text, '\0', (size_t)length))
		return error_say(err, EINVAL,
				 "%s: a kernel's command line is one line of text, at most %u "
				 "characters; mend it, or give another by --cmdline",
				 path, CMDLINE_MAX);
	text[length] = '\0';
	return 0;
}

static int take_cmdline(const char *disk, char **out, struct error *err)
{
	char text[CMDLINE_MAX + 1];
	char *path = NULL;
	int result = find_beside(disk, ".cmdline", &path);

	if (result)
		return error_errno(err, -result, "disk %s", disk);
	if (path)
		result = read_line(path, text, err);
	if (path && !result) {
		*out = strdup(text);
		if (!*out)
			result = error_errno(err, ENOMEM, "%s", path);
	}
	free(path);
	return result;
}

static int find_kernel(const char *disk, char **out, struct error *err)
{
	size_t length = strlen(disk);
	size_t suffix = strlen(DISK_SUFFIX);
	int result;

	if (length <= suffix || strcmp(disk + length - suffix, DISK_SUFFIX) != 0)
		return error_say(err, ENOENT,
				 "no kernel; give one by --kernel FILE (beside the disk %s none is "
				 "looked for, since its name does not end in .raw)",
				 disk);
	result = find_beside(disk, ".vmlinuz", out);
	if (result)
		return error_errno(err, -result, "disk %s", disk);
	if (!*out)
		return error_say(
			err, ENOENT,
			"no kernel; give one by --kernel FILE, or put one beside the disk: "
			"%.*s.vmlinuz",
			(int)(length - suffix), disk);
	return 0;
}

int boot_files_find(struct vm_config *config, struct boot_files *files, struct error *err)
{
	const char *disk = config->disks[0].path;
	int result;

	if (config->kernel)
		return 0;
	if (config->disk_count == 0)
		return error_say(err, ENOENT, "no kernel; give one by --kernel FILE");
	if (access(disk, F_OK) && errno == ENOENT)
		return error_say(err, ENOENT, "disk %s: there is no such file", disk);
	result = find_kernel(disk, &files->kernel, err);
	if (!result && !config->initrd && find_beside(disk, ".initrd", &files->initrd))
		result = error_errno(err, ENOMEM, "disk %s", disk);
	if (!result && !config->cmdline)
		result = take_cmdline(disk, &files->cmdline, err);
	if (result) {
		boot_files_release(files);
		return result;
	}
	config->kernel = files->kernel;
	if (files->initrd)
		config->initrd = files->initrd;
	if (files->cmdline)
		config->cmdline = files->cmdline;
	log_info("no --kernel: taking %s%s%s%s from beside the disk", config->kernel,
		 files->initrd ? ", " : "", files->initrd ? files->initrd : "",
		 files->cmdline ? " and the command line" : "");
	return 0;
}

void boot_files_release(struct boot_files *files)
{
	free(files->kernel);
	free(files->initrd);
	free(files->cmdline);
	*files = (struct boot_files){0};
}
