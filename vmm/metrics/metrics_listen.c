#include "vmm/metrics/metrics_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
};

static socklen_t fill_tcp(const struct metrics_config *config, union address *address)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET6, config->address, &address->six.sin6_addr) == 1) {
		address->six.sin6_family = AF_INET6;
		address->six.sin6_port = htons(config->port);
		return sizeof(address->six);
	}
	inet_pton(AF_INET, config->address, &address->four.sin_addr);
	address->four.sin_family = AF_INET;
	address->four.sin_port = htons(config->port);
	return sizeof(address->four);
}

static int say_bind_failure(const struct metrics_config *config, int errnum, struct error *err)
{
	if (errnum == EADDRINUSE)
		return error_say(
			err, errnum,
			"--metrics: port %u of %s is in use by another program (`ss -ltnp` "
			"says by which); choose another, or 0 for any that is free",
			config->port, config->address);
	if (errnum == EACCES)
		return error_say(err, errnum,
				 "--metrics: port %u needs more rights than you have; choose one "
				 "above 1023",
				 config->port);
	if (errnum == EADDRNOTAVAIL)
		return error_say(err, errnum,
				 "--metrics: this host does not have the address %s; `ip address` "
				 "lists those that it has",
				 config->address);
	return error_errno(err, errnum, "--metrics: listen on %s port %u", config->address,
			   config->port);
}

/* The port that the kernel has chosen, if it was to. */
static uint16_t port_of(int fd)
{
	union address address = {0};
	socklen_t length = sizeof(address);

	if (getsockname(fd, &address.any, &length))
		return 0;
	return ntohs(address.any.sa_family == AF_INET6 ? address.six.sin6_port
						       : address.four.sin_port);
}

static int listen_tcp(const struct metrics_config *config, struct metrics_listener *listener,
		      struct error *err)
{
	union address address;
	socklen_t length = fill_tcp(config, &address);
	bool six = address.any.sa_family == AF_INET6;
	const int yes = 1;
	int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_errno(err, errno, "--metrics: socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (six) /* [::] is all IPv6 addresses and no others: what is not said is not opened */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
	if (bind(fd, &address.any, length) || listen(fd, BACKLOG)) {
		int result = say_bind_failure(config, errno, err);

		close(fd);
		return result;
	}
	listener->fd = fd;
	snprintf(listener->place, sizeof(listener->place), "http://%s%s%s:%u/metrics",
		 six ? "[" : "", config->address, six ? "]" : "", port_of(fd));
	return 0;
}

static int listen_unix(const char *path, struct metrics_listener *listener, struct error *err)
{
	struct error why;
	int result = unix_listener_open(&listener->local, path, &why);

	if (result)
		return error_say(err, -result, "--metrics %s", why.text);
	listener->fd = listener->local.fd;
	snprintf(listener->place, sizeof(listener->place), "unix:%s", path);
	return 0;
}

int metrics_listen(const struct metrics_config *config, struct metrics_listener *listener,
		   struct error *err)
{
	*listener = (struct metrics_listener){.fd = -1, .local.fd = -1};
	if (config->kind == METRICS_UNIX)
		return listen_unix(config->path, listener, err);
	return listen_tcp(config, listener, err);
}

void metrics_listener_remove(const struct metrics_listener *listener)
{
	if (listener->local.fd >= 0)
		unix_listener_remove(&listener->local);
}
