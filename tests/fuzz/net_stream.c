/* The socket to passt: an other side that sends, takes, stops and goes as it likes. */
#include "devices/net_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net_framing.h"
#include "tests/fuzz/input.h"

#define PIECES_MAX 80u

static void receive(struct net_backend *backend, bool *gone)
{
	static uint8_t frame[NET_FRAME_MAX];
	ssize_t size;

	while ((size = backend->ops->receive(backend, frame)) > 0)
		if ((size_t)size < sizeof(struct virtio_net_hdr_v1) || (size_t)size > NET_FRAME_MAX)
			abort();
	*gone = size != -EAGAIN;
	if (size != -EAGAIN && size != -EPROTO && size != -ECONNRESET)
		abort();
}

static void send_frame(struct net_backend *backend, struct fuzz_input *input)
{
	static uint8_t bytes[4096];
	const struct virtio_net_hdr_v1 header = {0};
	struct iovec pieces[PIECES_MAX];
	size_t count = 1 + fuzz_u8(input) % PIECES_MAX;
	size_t length = fuzz_u16(input) % sizeof(bytes);

	for (size_t i = 0; i < count; i++)
		pieces[i] = (struct iovec){bytes, i ? length : 14};
	backend->ops->send(backend, &header, pieces, count);
}

/* A frame with its prefix, or bytes as they come. */
static void other_side(int fd, struct fuzz_input *input)
{
	uint8_t bytes[NET_FRAMING_PREFIX + 64] = {0};
	uint8_t kind = fuzz_u8(input);
	size_t length = kind % 64u;

	if (kind & 0x80) {
		length = fuzz_take(input, bytes, length);
	} else {
		bytes[3] = (uint8_t)length;
		length += NET_FRAMING_PREFIX;
	}
	send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void act(struct net_backend *backend, int fd, struct fuzz_input *input, bool *gone)
{
	static uint8_t taken[65536];

	switch (fuzz_u8(input) & 7) {
	case 0:
	case 1:
		other_side(fd, input);
		break;
	case 2:
	case 3:
		receive(backend, gone);
		break;
	case 4:
	case 5:
		send_frame(backend, input);
		break;
	case 6:
		recv(fd, taken, 1 + (size_t)fuzz_u16(input), MSG_DONTWAIT);
		break;
	default:
		shutdown(fd, fuzz_u8(input) % 3);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct net_backend *backend;
	const int little = 4096; /* so that a frame is taken in parts */
	bool gone = false;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) ||
	    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &little, sizeof(little)) ||
	    net_stream_create(fds[0], &backend))
		abort();
	while (fuzz_more(&input) && !gone)
		act(backend, fds[1], &input, &gone);
	net_backend_destroy(backend);
	close(fds[1]);
	return 0;
}
