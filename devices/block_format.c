#include "devices/block_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/io.h"
#include "vmm/base/log.h"

#define HEAD_SIZE 512u

/* What images begin with, and the names that files of theirs go by. The first match counts. */
static const struct format {
	const char *name; /* qemu-img's */
	const char *extensions[3];
	unsigned offset;
	unsigned length;
	const char *magic;
} formats[] = {
	{"qcow", {"qcow", "qcow2"}, 0, 8, "QFI\xfb\0\0\0\1"}, /* version 1 */
	{"qcow2", {"qcow2", "qcow"}, 0, 4, "QFI\xfb"},
	{"vmdk", {"vmdk"}, 0, 4, "KDMV"},
	{"vmdk", {"vmdk"}, 0, 4, "COWD"},
	{"vmdk", {"vmdk"}, 0, 21, "# Disk DescriptorFile"},
	{"vdi", {"vdi"}, 64, 4, "\x7f\x10\xda\xbe"},
	{"vhdx", {"vhdx"}, 0, 8, "vhdxfile"},
	{"vpc", {"vhd", "vpc"}, 0, 8, "conectix"},
	{"qed", {"qed"}, 0, 4, "QED"}, /* with its NUL */
};

static const struct format *find_format(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const struct format *found = NULL;
	char head[HEAD_SIZE];

	if (fd < 0)
		return NULL;
	if (!io_pread_full(fd, head, sizeof(head), 0)) {
		for (size_t i = 0; !found && i < ARRAY_SIZE(formats); i++) {
			if (!memcmp(head + formats[i].offset, formats[i].magic, formats[i].length))
				found = &formats[i];
		}
	}
	close(fd);
	return found;
}

/* The extension of @path, without its dot; "" if there is none. */
static const char *extension(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *dot = strrchr(slash ? slash : path, '.');

	return dot ? dot + 1 : "";
}

static bool is_named_so(const struct format *format, const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(format->extensions) && format->extensions[i]; i++) {
		if (!strcasecmp(extension(path), format->extensions[i]))
			return true;
	}
	return false;
}

int block_format_check(const char *path, struct error *err)
{
	const struct format *format = find_format(path);
	int stem;

	if (!format)
		return 0;
	if (!is_named_so(format, path)) {
		log_warning("disk %s: begins as a %s image does, and is used as a raw disk all the "
			    "same, for its guest may have written that (,format=raw says that it "
			    "is raw); to convert it: qemu-img convert -f %s -O raw FILE NEW.raw",
			    path, format->name, format->name);
		return 0;
	}
	stem = (int)(strlen(path) - strlen(extension(path)));
	return error_say(
		err, EINVAL,
		"disk %s: is a %s image; ebb reads raw disks: qemu-img convert -f %s -O raw "
		"%s %.*sraw",
		path, format->name, format->name, path, stem, path);
}
