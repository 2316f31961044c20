#include "vmm/machine/net_user.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_stream.h"
#include "vmm/base/checked.h"
#include "vmm/base/log.h"
#include "vmm/machine/passt.h"

#define OBITUARY_PATIENCE_MS 1000

struct net_user {
	struct net_backend backend;
	struct net_backend *stream;
	struct passt *passt;
	bool lost; /* it was said that passt has ended */
};

static struct net_user *to_user(struct net_backend *backend)
{
	return container_of(backend, struct net_user, backend);
}

static void report_loss(struct net_user *user, int error)
{
	char text[300];

	if (user->lost || error == -EAGAIN)
		return;
	user->lost = true;
	if (passt_obituary(user->passt, OBITUARY_PATIENCE_MS, text, sizeof(text)))
		log_warning("passt %s; the guest has no network until the machine is started anew",
			    text);
	else
		log_warning("passt does not serve the guest's network any more: %s",
			    strerrordesc_np(-error));
}

static ssize_t user_receive(struct net_backend *backend, void *buffer)
{
	struct net_user *user = to_user(backend);
	ssize_t size = user->stream->ops->receive(user->stream, buffer);

	if (size < 0)
		report_loss(user, (int)size);
	return size;
}

static int user_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		     const struct iovec *frame, size_t count)
{
	struct net_user *user = to_user(backend);
	int result = user->stream->ops->send(user->stream, header, frame, count);

	if (result)
		report_loss(user, result);
	return result;
}

/* Whatever there is of it. */
static void end(struct net_user *user)
{
	net_backend_destroy(user->stream); /* which is what passt ends by */
	passt_end(user->passt);
	free(user);
}

static void user_destroy(struct net_backend *backend)
{
	end(to_user(backend));
}

static const struct net_backend_ops user_ops = {
	.name = "passt",
	.receive = user_receive,
	.send = user_send,
	.destroy = user_destroy,
};

/* A stream backend, and the socket's other end for passt. */
static int create_stream(struct net_user *user, int *other_end)
{
	int fds[2];
	int result;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	/* Of this end alone. */
	result = fcntl(fds[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
	if (!result)
		result = net_stream_create(fds[0], &user->stream);
	if (result) {
		close(fds[0]);
		close(fds[1]);
		return result;
	}
	*other_end = fds[1];
	return 0;
}

/*
 * A frame of a type that is reserved for experiments, which passt drops: that it was read shows that
 * passt serves. It takes the sender for the guest; for everybody is what it begins with.
 */
static int greet(struct net_backend *stream)
{
	struct ethhdr greeting = {
		.h_dest = {0x02, 0, 0, 0, 0, 0x02},
		.h_source = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		.h_proto = htobe16(0x88b5), /* IEEE 802, local experiments */
	};
	const struct iovec frame = {.iov_base = &greeting, .iov_len = sizeof(greeting)};
	const struct virtio_net_hdr_v1 header = {0};

	return stream->ops->send(stream, &header, &frame, 1);
}

int net_user_open(const struct net_config *config, struct net_backend **out, struct error *err)
{
	struct net_user *user = calloc(1, sizeof(*user));
	int other_end = -1;
	int result;

	if (!user)
		return error_errno(err, ENOMEM, "--net user");
	result = create_stream(user, &other_end);
	if (result) {
		error_errno(err, -result, "--net user: create a socket pair");
		goto end;
	}
	result = passt_start(config, other_end, &user->passt, err);
	if (result)
		goto end;
	result = greet(user->stream);
	/* In the child alone from now on, so that it closes when passt ends. */
	close(other_end);
	other_end = -1;
	if (!result || result == -EPIPE) /* that it has ended is seen, and explained, here */
		result = passt_await(user->passt, user->stream->fd, err);
	else
		error_errno(err, -result, "--net user: write to passt");
	if (result)
		goto end;
	user->backend.ops = &user_ops;
	user->backend.fd = user->stream->fd;
	user->backend.mtu = PASST_MTU;
	/* Its first member, whose address gcc's analyzer would take for a leak of the whole. */
	*out = (struct net_backend *)user;
	return 0;

end:
	if (other_end >= 0)
		close(other_end);
	end(user);
	return result;
}
