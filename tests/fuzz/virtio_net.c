/* A network card under a hostile driver, and a network that sends whatever it likes. */
#include "devices/virtio_net.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/guest.h"
#include "tests/unit/net_pair.h"
#include "vmm/base/checked.h"

#define OFFLOADS                                                                                   \
	(VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_CSUM) |             \
	 VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4) |        \
	 VIRTIO_FEATURE(VIRTIO_NET_F_HOST_UFO) | VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_UFO))

/* What leaves must make sense to a network that trusts the device. */
static void check_frame(const struct virtio_net_hdr_v1 *header, const struct iovec *frame,
			size_t count)
{
	uint64_t length = 0;

	for (size_t i = 0; i < count; i++)
		length += frame[i].iov_len;
	if (length < 14 || length > NET_FRAME_MAX || header->num_buffers)
		abort();
	if (header->flags &&
	    !range_within((uint64_t)header->csum_start + header->csum_offset, 2, length))
		abort();
	if (header->gso_type && (!header->flags || header->gso_size < 8))
		abort();
}

static int check_and_send(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
			  const struct iovec *frame, size_t count)
{
	int result;

	check_frame(header, frame, count);
	result = net_pair_send(backend, header, frame, count);
	return result == -EMSGSIZE ? 0 : result;
}

static const struct net_backend_ops backend_ops = {
	.name = "pair",
	.receive = net_pair_receive,
	.send = check_and_send,
	.destroy = net_pair_destroy,
};

/* The network sends a frame, takes what came, or goes away. */
static void network(struct fuzz_guest *guest, struct fuzz_input *input)
{
	int *fd = guest->opaque;
	static uint8_t frame[NET_FRAME_MAX];
	uint8_t kind = fuzz_u8(input);
	size_t length = kind < 0x80 ? kind : fuzz_u16(input);

	if (*fd < 0)
		return;
	if (kind == 0xff) {
		close(*fd);
		*fd = -1;
	} else if (kind >= 0xf0) {
		while (recv(*fd, frame, sizeof(frame), 0) > 0)
			;
	} else {
		fuzz_take(input, frame, sizeof(struct virtio_net_hdr_v1));
		send(*fd, frame, length, MSG_NOSIGNAL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t mac[VIRTIO_NET_MAC_BYTES] = {2, 0, 0, 0, 0, 1};
	struct fuzz_input input = {data, size};
	struct net_backend backend = {.ops = &backend_ops, .offloads = OFFLOADS, .mtu = 1500};
	struct virtio_device *device;
	struct fuzz_guest guest;
	int end;

	if (net_pair_open(&end, &backend.fd))
		abort();
	fuzz_guest_create(&guest);
	guest.host = network;
	guest.opaque = &end;
	if (virtio_net_create(guest.memory, guest.loop, &backend, mac, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	if (end >= 0)
		close(end);
	return 0;
}
