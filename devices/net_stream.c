#include "devices/net_stream.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_framing.h"
#include "vmm/base/checked.h"

/* A frame in more pieces is copied together first. */
#define PIECES_MAX 64

/* What passt takes at most; it may end a connection over a longer one. */
#define SEND_MAX ((size_t)ETH_MAX_MTU)

struct net_stream {
	struct net_backend backend;
	struct net_framing incoming;
	/*
	 * A frame with its prefix that the socket has not wholly taken. Its rest must be the next
	 * that is sent, or the other side would lose its way; the device was told -EAGAIN and comes
	 * with the same frame again, unless the driver was reset meanwhile.
	 */
	uint8_t pending[NET_FRAMING_PREFIX + SEND_MAX];
	size_t pending_length; /* 0: none */
	size_t pending_sent;
};

static struct net_stream *to_stream(struct net_backend *backend)
{
	return container_of(backend, struct net_stream, backend);
}

static int not_now(int error)
{
	return error == EWOULDBLOCK ? -EAGAIN : -error;
}

static ssize_t read_some(int fd, struct iovec *iov, int count)
{
	ssize_t bytes;

	do {
		bytes = readv(fd, iov, count);
	} while (bytes < 0 && errno == EINTR);
	if (bytes == 0)
		return -ECONNRESET;
	return bytes < 0 ? not_now(errno) : bytes;
}

static ssize_t write_some(int fd, struct iovec *iov, size_t count)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t bytes;

	do {
		bytes = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (bytes < 0 && errno == EINTR);
	return bytes < 0 ? not_now(errno) : bytes;
}

static ssize_t stream_receive(struct net_backend *backend, void *buffer)
{
	struct net_stream *stream = to_stream(backend);
	uint8_t *frame = (uint8_t *)buffer + sizeof(struct virtio_net_hdr_v1);
	struct iovec iov[2];
	ssize_t length;

	do {
		int count = net_framing_space(&stream->incoming, frame, iov);
		ssize_t bytes = read_some(backend->fd, iov, count);

		if (bytes < 0)
			return bytes;
		length = net_framing_took(&stream->incoming, frame, (size_t)bytes);
	} while (!length);
	if (length < 0)
		return length;
	memset(buffer, 0, sizeof(struct virtio_net_hdr_v1));
	return (ssize_t)sizeof(struct virtio_net_hdr_v1) + length;
}

static size_t length_of(const struct iovec *frame, size_t count)
{
	size_t length = 0;

	for (size_t i = 0; i < count; i++)
		length += frame[i].iov_len;
	return length;
}

/* Keeps @frame of @length bytes to be sent, with its prefix. */
static void keep(struct net_stream *stream, const struct iovec *frame, size_t count, size_t length)
{
	uint32_t prefix = htobe32((uint32_t)length);
	uint8_t *to = stream->pending + NET_FRAMING_PREFIX;

	memcpy(stream->pending, &prefix, sizeof(prefix));
	for (size_t i = 0; i < count; i++) {
		memcpy(to, frame[i].iov_base, frame[i].iov_len);
		to += frame[i].iov_len;
	}
	stream->pending_length = NET_FRAMING_PREFIX + length;
	stream->pending_sent = 0;
}

static bool is_kept(const struct net_stream *stream, const struct iovec *frame, size_t count,
		    size_t length)
{
	const uint8_t *kept = stream->pending + NET_FRAMING_PREFIX;

	if (stream->pending_length != NET_FRAMING_PREFIX + length)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (memcmp(kept, frame[i].iov_base, frame[i].iov_len) != 0)
			return false;
		kept += frame[i].iov_len;
	}
	return true;
}

/* Sends the rest of what is kept: 0 once it has all gone, -EAGAIN, or another -errno. */
static int flush(struct net_stream *stream)
{
	while (stream->pending_sent < stream->pending_length) {
		struct iovec rest = {
			.iov_base = stream->pending + stream->pending_sent,
			.iov_len = stream->pending_length - stream->pending_sent,
		};
		ssize_t bytes = write_some(stream->backend.fd, &rest, 1);

		if (bytes < 0)
			return (int)bytes;
		stream->pending_sent += (size_t)bytes;
	}
	return 0;
}

/* Straight from guest memory, as far as the socket takes it. */
static int send_in_place(struct net_stream *stream, const struct iovec *frame, size_t count,
			 size_t length)
{
	uint32_t prefix = htobe32((uint32_t)length);
	struct iovec iov[1 + PIECES_MAX] = {{.iov_base = &prefix, .iov_len = sizeof(prefix)}};
	ssize_t bytes;

	memcpy(iov + 1, frame, count * sizeof(*frame));
	bytes = write_some(stream->backend.fd, iov, 1 + count);
	if (bytes < 0)
		return (int)bytes;
	if ((size_t)bytes == sizeof(prefix) + length)
		return 0;
	keep(stream, frame, count, length);
	stream->pending_sent = (size_t)bytes;
	return -EAGAIN;
}

static int stream_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		       const struct iovec *frame, size_t count)
{
	struct net_stream *stream = to_stream(backend);
	size_t length = length_of(frame, count);
	int result;

	(void)header; /* without offloads it says nothing */
	if (stream->pending_length) {
		bool same;

		result = flush(stream);
		if (result)
			return result;
		same = is_kept(stream, frame, count, length);
		stream->pending_length = 0;
		if (same)
			return 0;
	}
	if (length < NET_FRAMING_MIN || length > SEND_MAX)
		return 0; /* dropped */
	if (count <= PIECES_MAX)
		return send_in_place(stream, frame, count, length);
	keep(stream, frame, count, length);
	result = flush(stream);
	if (!result)
		stream->pending_length = 0;
	return result;
}

static void stream_destroy(struct net_backend *backend)
{
	close(backend->fd);
	free(to_stream(backend));
}

static const struct net_backend_ops stream_ops = {
	.name = "stream",
	.receive = stream_receive,
	.send = stream_send,
	.destroy = stream_destroy,
};

int net_stream_create(int fd, struct net_backend **out)
{
	struct net_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return -ENOMEM;
	stream->backend.ops = &stream_ops;
	stream->backend.fd = fd;
	/* Its first member, whose address gcc's analyzer would take for a leak of the whole. */
	*out = (struct net_backend *)stream;
	return 0;
}
