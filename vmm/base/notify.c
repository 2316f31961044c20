#include "vmm/base/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/clock.h"

#define MESSAGE_MAX 512

/* A path, or a name in the abstract name space behind "@". */
static int make_address(const char *name, struct sockaddr_un *address, socklen_t *length)
{
	size_t size = strlen(name);

	if ((name[0] != '/' && name[0] != '@') || size < 2)
		return -EINVAL;
	if (size >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, name, size);
	if (name[0] == '@')
		address->sun_path[0] = '\0';
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	return 0;
}

static bool keeps_open; /* once and for all: no message opens a socket of its own */
static int kept;        /* then: connected, or the -errno that messages end with */

/* A socket that leads to the service manager, or -errno. -ENOENT: there is none. */
static int open_socket(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t length;
	int result;
	int fd;

	if (!name || !*name)
		return -ENOENT;
	result = make_address(name, &address, &length);
	if (result)
		return result;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, length)) {
		result = -errno;
		close(fd);
		return result;
	}
	return fd;
}

void notify_keep_open(void)
{
	if (keeps_open)
		return;
	kept = open_socket();
	keeps_open = true;
}

int notify_send(const char *fmt, ...)
{
	const char *name = getenv("NOTIFY_SOCKET");
	char message[MESSAGE_MAX + 1];
	va_list args;
	int result = 0;
	int fd;

	if (!name || !*name)
		return 0;
	fd = keeps_open ? kept : open_socket();
	if (fd < 0)
		return fd;
	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	if (send(fd, message, strlen(message), MSG_NOSIGNAL) < 0)
		result = -errno;
	if (!keeps_open)
		close(fd);
	return result;
}

int notify_reloading(void)
{
	return notify_send("RELOADING=1\nMONOTONIC_USEC=%llu",
			   (unsigned long long)(clock_monotonic_ns() / 1000));
}
