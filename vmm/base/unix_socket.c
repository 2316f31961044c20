#include "vmm/base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/removal.h"

#define BACKLOG       128
#define LOCK_ATTEMPTS 100
#define LOCK_NAP_NS   10000000

static int fill_address(const char *path, struct sockaddr_un *address)
{
	size_t length = strlen(path);

	if (length >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, length + 1);
	return 0;
}

static int open_stream(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

int unix_socket_connect(const char *path)
{
	struct sockaddr_un address;
	int result = fill_address(path, &address);
	int fd;

	if (result)
		return result;
	fd = open_stream();
	if (fd < 0)
		return fd;
	if (!connect(fd, (const struct sockaddr *)&address, sizeof(address)))
		return fd;
	result = -errno;
	close(fd);
	return result;
}

/*
 * The directory is locked while a stale socket makes place for ours, lest two programs take each
 * other's for stale. Who cannot have the lock within a second does without: somebody else's grip on
 * /tmp must not keep a machine from starting.
 */
static int lock_directory(const char *path)
{
	const struct timespec nap = {.tv_nsec = LOCK_NAP_NS};
	const char *slash = strrchr(path, '/');
	char directory[UNIX_SOCKET_PATH_MAX];
	int fd;

	if (slash)
		snprintf(directory, sizeof(directory), "%.*s/", (int)(slash - path), path);
	else
		snprintf(directory, sizeof(directory), ".");
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < LOCK_ATTEMPTS && flock(fd, LOCK_EX | LOCK_NB); i++)
		nanosleep(&nap, NULL);
	return fd;
}

static int remove_stale(const char *path, struct error *err)
{
	struct stat info;
	int probe;

	if (lstat(path, &info))
		return errno == ENOENT ? 0 : error_errno(err, errno, "%s: socket", path);
	if (!S_ISSOCK(info.st_mode))
		return error_say(err, EEXIST,
				 "%s: exists and is no socket; remove it or choose another path",
				 path);
	probe = unix_socket_connect(path);
	if (probe >= 0 || probe == -EAGAIN) {
		if (probe >= 0)
			close(probe);
		return error_say(err, EADDRINUSE,
				 "%s: another program listens there; end it or choose another path",
				 path);
	}
	if (probe != -ECONNREFUSED && probe != -ENOENT)
		return error_errno(err, -probe, "%s: socket", path);
	if (unlink(path) && errno != ENOENT)
		return error_errno(err, errno, "%s: cannot remove the stale socket", path);
	return 0;
}

static int bind_and_listen(struct unix_listener *listener, struct error *err)
{
	struct sockaddr_un address;
	struct stat info;
	int result;

	fill_address(listener->path, &address);
	listener->fd = open_stream();
	if (listener->fd < 0)
		return error_errno(err, -listener->fd, "%s: socket", listener->path);
	/* Linux gives the socket's file the mode of its inode, less the umask. */
	if (fchmod(listener->fd, 0600) ||
	    bind(listener->fd, (const struct sockaddr *)&address, sizeof(address))) {
		result = error_errno(err, errno, "%s: cannot make the socket", listener->path);
		goto close_fd;
	}
	if (lstat(listener->path, &info) || listen(listener->fd, BACKLOG)) {
		result = error_errno(err, errno, "%s: socket", listener->path);
		goto remove_file;
	}
	listener->device = info.st_dev;
	listener->inode = info.st_ino;
	return 0;

remove_file:
	unlink(listener->path);
close_fd:
	close(listener->fd);
	listener->fd = -1;
	return result;
}

int unix_listener_open(struct unix_listener *listener, const char *path, struct error *err)
{
	int lock_fd;
	int result;

	*listener = (struct unix_listener){.fd = -1};
	if (strlen(path) >= sizeof(listener->path))
		return error_say(err, ENAMETOOLONG,
				 "%s: too long for a socket (%d bytes at most); use a shorter path",
				 path, UNIX_SOCKET_PATH_MAX - 1);
	memcpy(listener->path, path, strlen(path) + 1);
	lock_fd = lock_directory(path);
	result = remove_stale(path, err);
	if (!result)
		result = bind_and_listen(listener, err);
	if (lock_fd >= 0)
		close(lock_fd);
	return result;
}

int unix_listener_remove(const struct unix_listener *listener)
{
	struct stat info;

	if (removal_lstat(listener->path, &info))
		return errno == ENOENT ? 0 : -errno;
	if (info.st_dev != listener->device || info.st_ino != listener->inode)
		return 0;
	return removal_unlink(listener->path) && errno != ENOENT ? -errno : 0;
}

void unix_listener_close(struct unix_listener *listener)
{
	if (listener->fd < 0)
		return;
	unix_listener_remove(listener);
	close(listener->fd);
	listener->fd = -1;
}

ssize_t unix_socket_send(int fd, const void *bytes, size_t length, int file, int flags)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {
			     .cmsg_len = CMSG_LEN(sizeof(int)),
			     .cmsg_level = SOL_SOCKET,
			     .cmsg_type = SCM_RIGHTS,
		     }};
	struct iovec iov = {(void *)(uintptr_t)bytes, length};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (file >= 0) {
		memcpy(CMSG_DATA(&control.header), &file, sizeof(file));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.room);
	}
	return sendmsg(fd, &message, flags | MSG_NOSIGNAL);
}
