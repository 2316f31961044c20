#include "vmm/machine/chardev_port.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

/* *own: a descriptor of our own for what @fd is open on; -1 if @fd is not open at all. */
static int own_descriptor(int fd, int access, bool *socket, int *own)
{
	char path[32];
	struct stat info;

	if (fstat(fd, &info)) {
		*own = -1;
		return errno == EBADF ? 0 : -errno;
	}
	*socket = S_ISSOCK(info.st_mode);
	if (S_ISFIFO(info.st_mode) || isatty(fd)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		*own = open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (*own >= 0)
			return 0;
	}
	*own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *own < 0 ? -errno : 0;
}

static int open_stdio(struct chardev_port *port, struct error *err)
{
	bool ignored;
	int result = own_descriptor(STDIN_FILENO, O_RDONLY, &ignored, &port->in_fd);

	if (result)
		return error_errno(err, -result, "standard input for the serial line");
	result = own_descriptor(STDOUT_FILENO, O_WRONLY, &port->socket, &port->out_fd);
	if (result) {
		chardev_port_close(port);
		return error_errno(err, -result, "standard output for the serial line");
	}
	port->terminal = isatty(STDIN_FILENO);
	return 0;
}

static int open_file(const char *path, const char *name, struct chardev_port *port,
		     struct error *err)
{
	/* O_NONBLOCK: a FIFO that nobody reads is an error, not a wait. */
	port->out_fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (port->out_fd < 0 && errno == ENXIO)
		return error_say(err, ENXIO, "%s: nobody reads this FIFO; start its reader first",
				 path);
	if (port->out_fd < 0)
		return error_errno(err, errno, "%s: cannot be opened for the %s", path, name);
	snprintf(port->path, sizeof(port->path), "%s", path);
	return 0;
}

/* Raw, so that the guest alone echoes and edits. The modes stay when nobody has the pty open. */
static int set_up_slave(const char *path)
{
	struct termios modes;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &modes))
		result = -errno;
	cfmakeraw(&modes);
	if (!result && tcsetattr(fd, TCSANOW, &modes))
		result = -errno;
	close(fd); /* from now on, POLLHUP at the master says that nobody is there */
	return result;
}

static int open_pty(const char *name, struct chardev_port *port, struct error *err)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	int result;

	if (master < 0)
		return error_errno(err, errno, "pty for the %s", name);
	if (grantpt(master) || unlockpt(master) ||
	    ptsname_r(master, port->path, sizeof(port->path))) {
		result = -errno;
		goto fail;
	}
	result = set_up_slave(port->path);
	if (result)
		goto fail;
	port->out_fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
	if (port->out_fd < 0) {
		result = -errno;
		goto fail;
	}
	port->in_fd = master;
	port->pty = true;
	return 0;

fail:
	close(master);
	return error_errno(err, -result, "pty for the %s", name);
}

static int open_unix(const char *path, struct chardev_port *port, struct error *err)
{
	int result = unix_listener_open(&port->listener, path, err);

	if (result)
		return result;
	snprintf(port->path, sizeof(port->path), "%s", path);
	port->socket = true;
	return 0;
}

int chardev_port_open(enum serial_kind kind, const char *path, const char *name,
		      struct chardev_port *port, struct error *err)
{
	*port = (struct chardev_port){.in_fd = -1, .out_fd = -1, .listener.fd = -1};
	switch (kind) {
	case SERIAL_STDIO:
		return open_stdio(port, err);
	case SERIAL_FILE:
		return open_file(path, name, port, err);
	case SERIAL_PTY:
		return open_pty(name, port, err);
	case SERIAL_UNIX:
		return open_unix(path, port, err);
	case SERIAL_NONE:
	default:
		return 0;
	}
}

int chardev_port_accept(struct chardev_port *port)
{
	int fd = accept4(port->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int result = 0;

	if (fd < 0)
		return errno == EAGAIN || errno == ECONNABORTED ? 0 : -errno;
	if (port->out_fd >= 0)
		goto turn_away;
	port->in_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (port->in_fd < 0) {
		result = -errno;
		goto turn_away;
	}
	port->out_fd = fd;
	return 1;

turn_away:
	close(fd);
	return result;
}

void chardev_port_disconnect(struct chardev_port *port)
{
	if (port->in_fd >= 0)
		close(port->in_fd);
	if (port->out_fd >= 0)
		close(port->out_fd);
	port->in_fd = -1;
	port->out_fd = -1;
}

void chardev_port_close(struct chardev_port *port)
{
	unix_listener_close(&port->listener);
	chardev_port_disconnect(port);
}

ssize_t chardev_port_write(const struct chardev_port *port, const void *data, size_t length)
{
	struct pollfd wanted = {.fd = port->out_fd, .events = POLLOUT};
	ssize_t count;

	if (poll(&wanted, 1, 0) <= 0)
		return -EAGAIN;
	if (port->pty && (wanted.revents & POLLHUP))
		return -EIO;
	if (!(wanted.revents & (POLLOUT | POLLERR | POLLHUP)))
		return wanted.revents & POLLNVAL ? -EBADF : -EAGAIN;
	/* As much as a pipe that is writable takes at once: it may be a blocking one. */
	if (length > PIPE_BUF)
		length = PIPE_BUF;
	if (port->socket)
		count = send(port->out_fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		count = write(port->out_fd, data, length);
	if (count < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return count ? count : -EAGAIN;
}

ssize_t chardev_port_read(const struct chardev_port *port, void *data, size_t length)
{
	struct pollfd wanted = {.fd = port->in_fd, .events = POLLIN};
	ssize_t count;

	if (poll(&wanted, 1, 0) <= 0)
		return -EAGAIN;
	count = read(port->in_fd, data, length);
	if (count < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return count;
}

bool chardev_port_connected(const struct chardev_port *port)
{
	struct pollfd wanted = {.fd = port->out_fd, .events = POLLOUT};

	return poll(&wanted, 1, 0) >= 0 && !(wanted.revents & POLLHUP);
}

size_t chardev_port_unread(const struct chardev_port *port)
{
	int count = 0;
	int fd;

	if (!port->pty || !chardev_port_connected(port))
		return 0;
	fd = ioctl(port->in_fd, TIOCGPTPEER, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (ioctl(fd, FIONREAD, &count))
		count = 0;
	close(fd);
	return (size_t)count;
}
