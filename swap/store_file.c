#include "swap/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "swap/store_location.h"
#include "vmm/base/io.h"
#include "vmm/base/size.h"

/* A file grows by this much at a time; what is not written takes no space. */
#define EXTEND_STEP (256 * MIB)

static int open_unlinked(const char *dir)
{
	char *path;
	int fd;

	if (asprintf(&path, "%s/.ebb-swap-XXXXXX", dir) < 0)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC); /* O_EXCL, 0600 */
	if (fd < 0)
		fd = -errno;
	else if (unlink(path)) {
		int result = -errno;

		close(fd);
		fd = result;
	}
	free(path);
	return fd;
}

static int open_nameless(const char *dir, struct error *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	fd = -errno;
	/* EISDIR: what kernels say that know nothing of O_TMPFILE there (open(2)). */
	if (fd == -EISDIR || fd == -EOPNOTSUPP)
		fd = open_unlinked(dir);
	if (fd >= 0)
		return fd;
	switch (-fd) {
	case EACCES:
		return error_say(err, EACCES,
				 "swap directory %s: permission denied; give yourself write access "
				 "to it or choose another",
				 dir);
	case EROFS:
		return error_say(err, EROFS,
				 "swap directory %s: its file system is read-only; choose another",
				 dir);
	default:
		return error_errno(err, -fd, "swap directory %s", dir);
	}
}

static int open_device(const char *path, struct error *err)
{
	int fd = open(path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case EBUSY:
		return error_say(err, EBUSY,
				 "swap device %s: is in use (mounted, swapped to, or part of "
				 "another device); its whole content would be overwritten: give "
				 "one that nothing else uses",
				 path);
	case EACCES:
	case EPERM:
		return error_say(err, errno,
				 "swap device %s: permission denied; give yourself read and write "
				 "access to it or choose another",
				 path);
	default:
		return error_errno(err, errno, "swap device %s", path);
	}
}

static int device_size(const char *path, struct store_file *file, struct error *err)
{
	if (ioctl(file->fd, BLKGETSIZE64, &file->size))
		return error_errno(err, errno, "swap device %s: its size", path);
	if (file->size < SEGMENT_MAX)
		return error_say(err, ENOSPC,
				 "swap device %s: is smaller than 1 MiB; choose a larger one",
				 path);
	return 0;
}

/* @file owns @fd from now on. */
static void init(struct store_file *file, int fd, bool device)
{
	memset(file, 0, sizeof(*file));
	pthread_mutex_init(&file->extend_lock, NULL);
	pthread_mutex_init(&file->sync_lock, NULL);
	file->fd = fd;
	file->device = device;
	file->size = UINT64_MAX;
	file->block = STORE_PAGE;
}

/* Opens what @path is, without looking at what it can do. On failure there is nothing to close. */
static int open_path(const char *path, struct store_file *file, struct error *err)
{
	struct stat info;
	bool device;
	int fd, result;

	if (stat(path, &info)) {
		if (errno == ENOENT)
			return error_say(err, ENOENT,
					 "swap directory %s: does not exist; create it: "
					 "mkdir -p -m 0700 %s",
					 path, path);
		return error_errno(err, errno, "swap directory %s", path);
	}
	device = S_ISBLK(info.st_mode);
	if (!device && !S_ISDIR(info.st_mode))
		return error_say(err, ENOTDIR,
				 "swap directory %s: is not a directory; give the directory that "
				 "the store file shall be made in, or a block device",
				 path);
	fd = device ? open_device(path, err) : open_nameless(path, err);
	if (fd < 0)
		return fd;
	init(file, fd, device);
	result = device ? device_size(path, file, err) : 0;
	if (result)
		store_file_close(file);
	return result;
}

/* What O_DIRECT wants transfers and buffers to be multiples of; 0: there is no O_DIRECT. */
static uint32_t direct_block(int fd)
{
#ifdef STATX_DIOALIGN
	struct statx info;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) &&
	    info.stx_mask & STATX_DIOALIGN) {
		uint32_t block = info.stx_dio_offset_align > info.stx_dio_mem_align
					 ? info.stx_dio_offset_align
					 : info.stx_dio_mem_align;

		if (info.stx_dio_offset_align == 0 || block > STORE_BLOCK_MAX)
			return 0;
		return block > STORE_PAGE ? block : STORE_PAGE;
	}
#else
	(void)fd;
#endif
	return STORE_PAGE;
}

/* 0 if a block can be written (not on a device: nothing is lost by a look) and is read back. */
static int try_transfer(const struct store_file *file, uint8_t *buffer)
{
	int result = 0;

	if (!file->device) {
		memset(buffer, 0xeb, file->block);
		result = io_pwrite_full(file->fd, buffer, file->block, 0);
		memset(buffer, 0, file->block);
	}
	if (!result)
		result = io_pread_full(file->fd, buffer, file->block, 0);
	if (!result && !file->device && buffer[file->block - 1] != 0xeb)
		result = -EIO;
	return result;
}

/* Uses O_DIRECT if it works. */
static void go_direct(struct store_file *file)
{
	int flags = fcntl(file->fd, F_GETFL);
	uint32_t block = direct_block(file->fd);
	void *buffer;

	/* A store before this one may have set it. */
	if (flags >= 0 && flags & O_DIRECT)
		fcntl(file->fd, F_SETFL, flags &= ~O_DIRECT);
	if (block == 0 || flags < 0 || fcntl(file->fd, F_SETFL, flags | O_DIRECT))
		return;
	buffer = aligned_alloc(block, block);
	if (buffer) {
		file->block = block;
		file->direct = try_transfer(file, buffer) == 0;
		free(buffer);
	}
	if (!file->direct) {
		file->block = STORE_PAGE;
		fcntl(file->fd, F_SETFL, flags);
	}
	if (!file->device)
		store_file_punch(file, 0, block);
}

int store_file_open(const char *path, struct store_file *file, struct error *err)
{
	int result = open_path(path, file, err);

	if (!result)
		go_direct(file);
	return result;
}

int store_file_reserve(const char *path, int *fd, struct error *err)
{
	struct store_file file = {.fd = -1};
	int result = open_path(path, &file, err);

	if (result)
		return result;
	*fd = file.fd;
	file.fd = -1;
	store_file_close(&file);
	return 0;
}

int store_file_reopen(int fd, const char *path, struct store_file *file, struct error *err)
{
	struct stat info;
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int result;

	if (copy < 0)
		return error_errno(err, errno, "swap store %s", path);
	if (fstat(copy, &info)) {
		result = error_errno(err, errno, "swap store %s", path);
		close(copy);
		return result;
	}
	init(file, copy, S_ISBLK(info.st_mode));
	file->is_borrowed = true;
	result = file->device ? device_size(path, file, err) : 0;
	if (result)
		store_file_close(file);
	else
		go_direct(file);
	return result;
}

/* All of the file, however long it has become. */
static void give_back(const struct store_file *file)
{
	struct stat info;

	if (ftruncate(file->fd, 0) && !fstat(file->fd, &info))
		store_file_punch(file, 0, (uint64_t)info.st_size);
}

void store_file_close(struct store_file *file)
{
	/* It lives on without us: what would die with it has to be given back. */
	if (file->is_borrowed && !file->device && file->fd >= 0)
		give_back(file);
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
	pthread_mutex_destroy(&file->sync_lock);
	pthread_mutex_destroy(&file->extend_lock);
}

int store_file_check(const char *path, struct error *err)
{
	static const uint8_t page[STORE_PAGE];
	struct store_file file = {.fd = -1};
	int result = open_path(path, &file, err);

	if (result)
		return result;
	if (file.device)
		goto close_file;
	result = io_pwrite_full(file.fd, page, sizeof(page), 0);
	/* Some file systems tell of a full disk only when data is really placed. */
	if (!result && fdatasync(file.fd))
		result = -errno;
	if (result) {
		error_errno(err, -result, "swap directory %s: writing one page (see df -h %s)",
			    path, path);
		goto close_file;
	}
	result = store_file_punch(&file, 0, sizeof(page));
	if (result)
		error_errno(
			err, -result,
			"swap directory %s: its file system cannot punch holes; use one on ext4, "
			"xfs, btrfs or tmpfs",
			path);
close_file:
	store_file_close(&file);
	return result;
}

void store_file_extend(struct store_file *file, uint64_t end)
{
	uint64_t longer;

	if (file->device || end <= atomic_load(&file->length))
		return;
	/* With a lock: a length that is set late must not cut off what another thread wrote. */
	pthread_mutex_lock(&file->extend_lock);
	if (end > atomic_load(&file->length)) {
		longer = (end / EXTEND_STEP + 1) * EXTEND_STEP;
		/* Writes will make it longer, nobody knows how far: setting it could cut them off. */
		if (ftruncate(file->fd, (off_t)longer))
			longer = UINT64_MAX;
		atomic_store(&file->length, longer);
	}
	pthread_mutex_unlock(&file->extend_lock);
}

int store_file_punch(const struct store_file *file, uint64_t offset, uint64_t length)
{
	uint64_t range[2] = {offset, length};

	if (file->device) {
		ioctl(file->fd, BLKDISCARD, range);
		return 0;
	}
	return fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			 (off_t)length)
		       ? -errno
		       : 0;
}

static int sync_range(const struct store_file *file, uint64_t offset, uint64_t length)
{
	if (!sync_file_range(file->fd, (off_t)offset, (off_t)length,
			     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
				     SYNC_FILE_RANGE_WAIT_AFTER))
		return 0;
	if (errno != ENOSYS && errno != EINVAL && errno != ESPIPE)
		return -errno;
	return fdatasync(file->fd) ? -errno : 0;
}

int store_file_sync(struct store_file *file, uint64_t offset, uint64_t length, unsigned errors)
{
	int result;

	if (file->direct)
		return 0;
	/* Several may be on their way to the disk; each is waited for alone. */
	sync_file_range(file->fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
	/*
	 * The kernel tells of a write-back that failed once, and not of which: whoever asks first. So
	 * an error counts for all that was being written then.
	 */
	pthread_mutex_lock(&file->sync_lock);
	result = sync_range(file, offset, length);
	if (result)
		atomic_fetch_add(&file->sync_errors, 1);
	else if (atomic_load(&file->sync_errors) != errors)
		result = -EIO;
	pthread_mutex_unlock(&file->sync_lock);
	store_file_forget(file, offset, length);
	return result;
}

void store_file_forget(const struct store_file *file, uint64_t offset, uint64_t length)
{
	if (!file->direct)
		posix_fadvise(file->fd, (off_t)offset, (off_t)length, POSIX_FADV_DONTNEED);
}
