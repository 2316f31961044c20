#include "vmm/base/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/unix_socket.h"

static struct {
	const char *path; /* NULL: there is no child */
	int socket;
	pid_t child;
} opener;

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

/* Looks before it opens, which alone can do something to a device. */
static int open_file(const char *path)
{
	struct stat info;
	int fd;

	if (stat(path, &info))
		return -errno;
	fd = open(path, S_ISREG(info.st_mode) ? O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY
					      : O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static _Noreturn void serve(int socket, const char *path)
{
	char wish;

	prctl(PR_SET_NAME, "ebb-opener");
	for (;;) {
		ssize_t length = recv(socket, &wish, sizeof(wish), 0);
		int fd;

		if (length < 0 && errno == EINTR)
			continue;
		if (length != sizeof(wish))
			_exit(0);
		fd = open_file(path);
		/* Negative: an errno alone. */
		unix_socket_send(socket, &fd, sizeof(fd), fd, 0);
		if (fd >= 0)
			close(fd);
	}
}

int opener_start(const char *path, struct error *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
		return error_errno(err, errno, "%s: socketpair", path);
	opener.child = fork();
	if (opener.child < 0) {
		int result = error_errno(err, errno, "%s: fork", path);

		close(ends[0]);
		close(ends[1]);
		return result;
	}
	if (!opener.child) {
		close(ends[0]);
		serve(ends[1], path);
	}
	close(ends[1]);
	opener.socket = ends[0];
	opener.path = path;
	return 0;
}

int opener_open(const char *path)
{
	union control control;
	int fd = -EIO;
	struct iovec iov = {&fd, sizeof(fd)};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control.room),
	};

	if (!opener.path || strcmp(path, opener.path) != 0)
		return open_file(path);
	if (send(opener.socket, "", 1, MSG_NOSIGNAL) != 1 ||
	    recvmsg(opener.socket, &message, MSG_CMSG_CLOEXEC) != sizeof(fd))
		return -EIO;
	if (fd < 0)
		return fd;
	if (!CMSG_FIRSTHDR(&message) || control.header.cmsg_type != SCM_RIGHTS)
		return -EIO;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

void opener_stop(void)
{
	if (!opener.path)
		return;
	opener.path = NULL;
	close(opener.socket);
	while (waitpid(opener.child, NULL, 0) < 0 && errno == EINTR)
		;
}
