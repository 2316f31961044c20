#include "tests/unit/net_pair.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int net_pair_open(int *network, int *backend)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds))
		return -errno;
	*network = fds[0];
	*backend = fds[1];
	return 0;
}

ssize_t net_pair_receive(struct net_backend *backend, void *buffer)
{
	ssize_t size = recv(backend->fd, buffer, NET_FRAME_MAX, 0);

	if (size == 0)
		return -ECONNRESET;
	return size < 0 ? -errno : size;
}

int net_pair_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		  const struct iovec *frame, size_t count)
{
	struct iovec iov[NET_FRAME_PIECES_MAX + 1] = {
		{(void *)(uintptr_t)header, sizeof(*header)},
	};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = count + 1};

	memcpy(iov + 1, frame, count * sizeof(*frame));
	return sendmsg(backend->fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void net_pair_destroy(struct net_backend *backend)
{
	close(backend->fd);
}
