#include "devices/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/log.h"

struct block {
	int fd;
	bool read_only;
	bool is_device;
	uint64_t size;
	char *path;
	char id[BLOCK_ID_LENGTH + 1];
};

static int explain_open(const char *path, bool read_only, int errnum, struct error *err)
{
	switch (errnum) {
	case ENOENT:
		return error_say(err, errnum,
				 "disk %s: there is no such file; `truncate -s 10G FILE` makes an "
				 "empty disk",
				 path);
	case EISDIR:
		return error_say(err, errnum,
				 "disk %s: is a directory; name a raw image file or block device",
				 path);
	case EACCES:
	case EPERM:
	case EROFS:
		return error_errno(err, errnum, "disk %s: cannot be opened for %s; %s", path,
				   read_only ? "reading" : "writing",
				   read_only ? "get the right to read it"
					     : "get the right to write it, or add ,ro to use it "
					       "read-only");
	case EBUSY:
		return error_say(err, errnum,
				 "disk %s: this host uses it (it is mounted, or part of something "
				 "that is), or another virtual machine does; unmount it, or use a "
				 "copy",
				 path);
	default:
		return error_errno(err, errnum, "disk %s: open", path);
	}
}

/*
 * O_NONBLOCK keeps a FIFO from hanging the open; it must not stay, io_uring would obey it. O_EXCL
 * on a block device fails if the host itself uses it: two writers would ruin a mounted file system.
 */
static int open_disk(const char *path, bool read_only, int *out, struct error *err)
{
	int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	struct stat st;
	int fd;

	if (!read_only && !stat(path, &st) && S_ISBLK(st.st_mode))
		flags |= O_EXCL;
	fd = open(path, flags);
	if (fd < 0)
		return explain_open(path, read_only, errno, err);
	if (fcntl(fd, F_SETFL, 0)) {
		int result = error_errno(err, errno, "disk %s: fcntl(F_SETFL)", path);

		close(fd);
		return result;
	}
	*out = fd;
	return 0;
}

static int measure(struct block *block, struct error *err)
{
	struct stat st;

	if (fstat(block->fd, &st))
		return error_errno(err, errno, "disk %s: stat", block->path);
	if (S_ISDIR(st.st_mode))
		return explain_open(block->path, block->read_only, EISDIR, err);
	if (S_ISBLK(st.st_mode)) {
		block->is_device = true;
		if (ioctl(block->fd, BLKGETSIZE64, &block->size))
			return error_errno(err, errno, "disk %s: ioctl(BLKGETSIZE64)", block->path);
	} else if (S_ISREG(st.st_mode)) {
		block->size = (uint64_t)st.st_size;
	} else {
		return error_say(err, EINVAL,
				 "disk %s: is neither a regular file nor a block device",
				 block->path);
	}
	if (block->size == 0)
		return error_say(err, EINVAL,
				 "disk %s: is empty; `truncate -s 10G FILE` gives it a size",
				 block->path);
	if (block->size % BLOCK_SECTOR_SIZE)
		return error_say(err, EINVAL,
				 "disk %s: %llu bytes are not a multiple of %u, so it is no raw "
				 "disk image; `truncate -s %%512 FILE` rounds it up",
				 block->path, (unsigned long long)block->size, BLOCK_SECTOR_SIZE);
	return 0;
}

static int lock(const struct block *block, struct error *err)
{
	struct flock request = {
		.l_type = block->read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (!fcntl(block->fd, F_OFD_SETLK, &request))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return error_say(err, EBUSY,
				 "disk %s: is in use by this or another virtual machine%s; use a "
				 "copy, or add ,ro wherever it is used",
				 block->path, block->read_only ? " that writes it" : "");
	/* Some network file systems have no locks: then the user has to take care. */
	log_warning("disk %s: cannot be locked against use by others: %s", block->path,
		    strerrordesc_np(errno));
	return 0;
}

static void set_id(struct block *block, const char *id)
{
	if (!id || !*id) {
		const char *slash = strrchr(block->path, '/');

		id = slash ? slash + 1 : block->path;
	}
	memcpy(block->id, id, strnlen(id, BLOCK_ID_LENGTH));
}

int block_open(const char *path, bool read_only, const char *id, struct block **out,
	       struct error *err)
{
	struct block *block = calloc(1, sizeof(*block));
	int result;

	if (!block)
		return error_errno(err, ENOMEM, "disk %s", path);
	block->read_only = read_only;
	block->path = strdup(path);
	if (!block->path) {
		result = error_errno(err, ENOMEM, "disk %s", path);
		goto free_block;
	}
	result = open_disk(path, read_only, &block->fd, err);
	if (result)
		goto free_path;
	result = measure(block, err);
	if (result)
		goto close_fd;
	result = lock(block, err);
	if (result)
		goto close_fd;
	set_id(block, id);
	*out = block;
	return 0;

close_fd:
	close(block->fd);
free_path:
	free(block->path);
free_block:
	free(block);
	return result;
}

void block_close(struct block *block)
{
	if (!block)
		return;
	close(block->fd);
	free(block->path);
	free(block);
}

int block_fd(const struct block *block)
{
	return block->fd;
}

const char *block_path(const struct block *block)
{
	return block->path;
}

const char *block_id(const struct block *block)
{
	return block->id;
}

bool block_is_read_only(const struct block *block)
{
	return block->read_only;
}

bool block_is_device(const struct block *block)
{
	return block->is_device;
}

uint64_t block_size(const struct block *block)
{
	return block->size;
}
