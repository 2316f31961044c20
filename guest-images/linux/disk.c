/* Reads and writes of whole disks, through the page cache or around it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent.h"

#define MIB    (1024u * 1024u)
#define MB_MAX (1u << 20)

static void disk_list(void)
{
	char names[256] = "";
	struct dirent *entry;
	DIR *dir = opendir("/sys/block");

	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, "vd", 2) &&
		    strlen(names) + strlen(entry->d_name) + 2 < sizeof(names)) {
			if (*names)
				strcat(names, ",");
			strcat(names, entry->d_name);
		}
	if (dir)
		closedir(dir);
	answer_ok("disks=%s", names);
}

static int open_disk(const char *name, int flags)
{
	char path[64];
	int fd;

	if (!name) {
		answer_fail("which disk?");
		return -1;
	}
	snprintf(path, sizeof(path), "/dev/%s", name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		answer_fail("%s: %s", path, strerror(errno));
	return fd;
}

/* One MiB at @index of the disk. 0 or -errno. */
static int transfer(int fd, bool write_it, uint64_t *buffer, uint64_t index)
{
	size_t done = 0;

	while (done < MIB) {
		char *at = (char *)buffer + done;
		off_t offset = (off_t)(index * MIB + done);
		ssize_t n = write_it ? pwrite(fd, at, MIB - done, offset)
				     : pread(fd, at, MIB - done, offset);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

static void fill(uint64_t *buffer, uint64_t seed, uint64_t index)
{
	for (size_t i = 0; i < MIB / 8; i++)
		buffer[i] = pattern(seed, index * (MIB / 8) + i);
}

/* 0, -errno, or -EBADMSG for a word that is not the pattern's. */
static int work(int fd, bool write_it, uint64_t *buffer, uint64_t megabytes, uint64_t seed)
{
	for (uint64_t index = 0; index < megabytes; index++) {
		int rc;

		if (write_it)
			fill(buffer, seed, index);
		rc = transfer(fd, write_it, buffer, index);
		if (rc)
			return rc;
		for (size_t i = 0; !write_it && i < MIB / 8; i++)
			if (buffer[i] != pattern(seed, index * (MIB / 8) + i))
				return -EBADMSG;
	}
	return write_it && fsync(fd) ? -errno : 0;
}

static void disk_work(char **words, bool write_it)
{
	bool direct = words[0] && words[1] && words[2] && words[3] && !strcmp(words[3], "direct");
	uint64_t megabytes, seed;
	uint64_t *buffer;
	int fd, rc;

	if (!words[0] || !parse_number(words[1], MB_MAX, &megabytes) ||
	    !parse_number(words[2], -1, &seed))
		return;
	fd = open_disk(words[0], (write_it ? O_RDWR : O_RDONLY) | (direct ? O_DIRECT : 0));
	if (fd < 0)
		return;
	/* What is verified shall come from the disk. */
	if (!write_it)
		ioctl(fd, BLKFLSBUF, 0);
	buffer = aligned_alloc(4096, MIB);
	rc = buffer ? work(fd, write_it, buffer, megabytes, seed) : -ENOMEM;
	free(buffer);
	close(fd);
	if (rc == -EBADMSG)
		answer_fail("wrong content");
	else if (rc)
		answer_fail("%s", strerror(-rc));
	else
		answer_ok("mb=%lu", megabytes);
}

static void disk_range(char **words, unsigned long request)
{
	uint64_t megabytes, range[2];
	int fd, rc;

	if (!words[0] || !parse_number(words[1], MB_MAX, &megabytes))
		return;
	fd = open_disk(words[0], O_RDWR);
	if (fd < 0)
		return;
	range[0] = 0;
	range[1] = megabytes * MIB;
	rc = ioctl(fd, request, range) ? errno : 0;
	close(fd);
	if (rc)
		answer_fail("%s", strerror(rc));
	else
		answer_ok("mb=%lu", megabytes);
}

static void disk_flush(char **words)
{
	int fd = open_disk(words[0], O_RDWR), rc;

	if (fd < 0)
		return;
	rc = fsync(fd) ? errno : 0;
	close(fd);
	if (rc)
		answer_fail("%s", strerror(rc));
	else
		answer_done();
}

void command_disk(char **words)
{
	const char *verb = words[0] ? words[0] : "";

	if (!strcmp(verb, "list"))
		disk_list();
	else if (!strcmp(verb, "write") && words[1])
		disk_work(words + 1, true);
	else if (!strcmp(verb, "verify") && words[1])
		disk_work(words + 1, false);
	else if (!strcmp(verb, "discard") && words[1])
		disk_range(words + 1, BLKDISCARD);
	else if (!strcmp(verb, "zeroes") && words[1])
		disk_range(words + 1, BLKZEROOUT);
	else if (!strcmp(verb, "flush"))
		disk_flush(words + 1);
	else
		answer_fail("disk list | write|verify DEVICE MB SEED [direct] | "
			    "discard|zeroes DEVICE MB | flush DEVICE");
}
