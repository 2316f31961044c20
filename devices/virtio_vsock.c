#include "devices/virtio_vsock.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>

#include "devices/vsock_muxer.h"
#include "vmm/base/checked.h"

#define QUEUE_SIZE 128u

enum {
	QUEUE_RX, /* to the guest */
	QUEUE_TX,
	QUEUE_EVENT,
	QUEUE_COUNT,
};

#define F_STREAM 0u /* section 5.10.3; Linux's header does not name it */

/* Packets in one turn of the event loop. */
#define TURN_PACKETS_MAX 32u

struct virtio_vsock {
	struct virtio_device device;
	struct vsock_muxer *muxer;
	uint32_t guest_cid;
	bool rx_held;    /* rx_chain is taken from its queue, and not filled yet */
	bool tx_stalled; /* the guest has to take answers before more packets are taken */
	struct virtq_chain rx_chain, tx_chain;
	uint8_t payload[VSOCK_PAYLOAD_MAX]; /* within one call only */
};

static struct virtio_vsock *to_vsock(struct virtio_device *device)
{
	return container_of(device, struct virtio_vsock, device);
}

/* A chain of the guest's for the next packet: 1, 0 if it has given none, -EINVAL (reset needed). */
static int hold_rx_chain(struct virtio_vsock *vsock)
{
	struct virtio_device *device = &vsock->device;
	struct virtqueue *queue = &device->queues[QUEUE_RX];
	int popped;

	if (vsock->rx_held && virtqueue_is_current(queue, vsock->rx_chain.generation))
		return 1;
	popped = virtqueue_pop(queue, &vsock->rx_chain);
	vsock->rx_held = popped == 1;
	if (popped < 0) {
		virtio_device_needs_reset(device, "malformed receive queue");
	} else if (popped && vsock->rx_chain.writable_bytes <= VSOCK_HEADER_SIZE) {
		virtio_device_needs_reset(device, "a receive buffer without room for a packet");
		popped = -EINVAL;
	}
	return popped;
}

/* Fills the held chain with the next packet, if there is one. */
static bool send_packet(struct virtio_vsock *vsock)
{
	const struct guest_memory *memory = vsock->device.memory;
	uint64_t room = vsock->rx_chain.writable_bytes - VSOCK_HEADER_SIZE;
	uint8_t header[VSOCK_HEADER_SIZE];
	struct vsock_packet packet;

	if (room > sizeof(vsock->payload))
		room = sizeof(vsock->payload);
	if (!vsock_muxer_pull(vsock->muxer, &packet, vsock->payload, room))
		return false;
	vsock_packet_encode(&packet, header);
	/* The chain was judged when it was taken: these cannot fail. */
	virtq_chain_write(memory, &vsock->rx_chain, 0, header, sizeof(header));
	virtq_chain_write(memory, &vsock->rx_chain, sizeof(header), vsock->payload, packet.length);
	virtqueue_push(&vsock->device.queues[QUEUE_RX], vsock->rx_chain.head,
		       VSOCK_HEADER_SIZE + packet.length);
	vsock->rx_held = false;
	return true;
}

static void serve_rx(struct virtio_vsock *vsock)
{
	struct virtio_device *device = &vsock->device;
	unsigned sent = 0;

	/*
	 * Who has no packet to send takes no chain: the guest's kick for more buffers comes, or the
	 * muxer's for more packets.
	 */
	while (sent < TURN_PACKETS_MAX && vsock_muxer_has_packets(vsock->muxer) &&
	       hold_rx_chain(vsock) == 1 && send_packet(vsock))
		sent++;
	if (sent == TURN_PACKETS_MAX) /* others want the loop too */
		virtio_device_kick_queue(device, QUEUE_RX);
	if (sent)
		virtio_device_signal_queue(device, &device->queues[QUEUE_RX]);
	if (vsock->tx_stalled && vsock_muxer_can_receive(vsock->muxer)) {
		vsock->tx_stalled = false;
		virtio_device_kick_queue(device, QUEUE_TX);
	}
}

/* Hands the packet in tx_chain to the muxer. What has no header is no packet. */
static void take_packet(struct virtio_vsock *vsock)
{
	const struct guest_memory *memory = vsock->device.memory;
	uint8_t header[VSOCK_HEADER_SIZE];
	struct vsock_packet packet;
	uint64_t behind;

	if (virtq_chain_read(memory, &vsock->tx_chain, 0, header, sizeof(header))) {
		if (log_ratelimit_pass(&vsock->device.guest_errors))
			log_warning("virtio-vsock: the guest sent a packet of %llu bytes, too "
				    "short for a header",
				    (unsigned long long)vsock->tx_chain.readable_bytes);
		return;
	}
	vsock_packet_decode(header, &packet);
	behind = vsock->tx_chain.readable_bytes - sizeof(header);
	/* A longer packet is more than anybody has credit for: the muxer resets its connection. */
	if (packet.length <= behind && packet.length <= sizeof(vsock->payload))
		virtq_chain_read(memory, &vsock->tx_chain, sizeof(header), vsock->payload,
				 packet.length);
	vsock_muxer_receive(vsock->muxer, &packet, behind, vsock->payload);
}

static void serve_tx(struct virtio_vsock *vsock)
{
	struct virtio_device *device = &vsock->device;
	struct virtqueue *queue = &device->queues[QUEUE_TX];
	unsigned taken = 0;
	int popped = 0;

	while (taken < TURN_PACKETS_MAX && vsock_muxer_can_receive(vsock->muxer)) {
		popped = virtqueue_pop(queue, &vsock->tx_chain);
		if (popped != 1)
			break;
		take_packet(vsock);
		virtqueue_push(queue, vsock->tx_chain.head, 0);
		taken++;
	}
	if (taken == TURN_PACKETS_MAX)
		virtio_device_kick_queue(device, QUEUE_TX);
	else if (!vsock_muxer_can_receive(vsock->muxer))
		vsock->tx_stalled = true; /* serve_rx() goes on */
	virtio_device_signal_queue(device, queue);
	if (popped < 0)
		virtio_device_needs_reset(device, "malformed transmit queue");
}

static void vsock_serve_queue(struct virtio_device *device, unsigned index)
{
	struct virtio_vsock *vsock = to_vsock(device);

	if (index == QUEUE_TX)
		serve_tx(vsock);
	else if (index == QUEUE_RX)
		serve_rx(vsock);
}

static void vsock_read_config(struct virtio_device *device, uint32_t offset, void *data,
			      unsigned size)
{
	const struct virtio_vsock_config config = {
		.guest_cid = htole64(to_vsock(device)->guest_cid),
	};

	virtio_device_copy_config(&config, sizeof(config), offset, data, size);
}

static int vsock_reset(struct virtio_device *device, uint64_t deadline)
{
	struct virtio_vsock *vsock = to_vsock(device);

	(void)deadline;
	vsock->rx_held = false;
	vsock->tx_stalled = false;
	vsock_muxer_reset(vsock->muxer);
	return 0;
}

static void vsock_destroy(struct virtio_device *device)
{
	struct virtio_vsock *vsock = to_vsock(device);

	vsock_muxer_destroy(vsock->muxer);
	virtio_device_fini(device);
	free(vsock);
}

static const struct virtio_device_ops vsock_ops = {
	.name = "virtio-vsock",
	.device_id = VIRTIO_ID_VSOCK,
	.queue_count = QUEUE_COUNT,
	.queue_size = QUEUE_SIZE,
	.read_config = vsock_read_config,
	.serve_queue = vsock_serve_queue,
	.reset = vsock_reset,
	.destroy = vsock_destroy,
};

static void wake_rx(void *opaque)
{
	virtio_device_kick_queue(opaque, QUEUE_RX);
}

static bool is_live(void *opaque)
{
	return virtio_device_is_live(opaque);
}

int virtio_vsock_create(const struct guest_memory *memory, struct event_loop *io_loop,
			const char *path, uint32_t guest_cid, struct virtio_device **out,
			struct error *err)
{
	struct virtio_vsock *vsock = calloc(1, sizeof(*vsock));
	struct vsock_muxer_config config = {
		.path = path,
		.guest_cid = guest_cid,
		.loop = io_loop,
		.wake = wake_rx,
		.is_live = is_live,
	};
	int result;

	if (!vsock)
		return error_errno(err, ENOMEM, "virtio-vsock");
	vsock->guest_cid = guest_cid;
	result = virtio_device_init(&vsock->device, &vsock_ops, memory, io_loop,
				    VIRTIO_FEATURE(F_STREAM));
	if (result) {
		error_errno(err, -result, "virtio-vsock");
		goto free_vsock;
	}
	config.lock = &vsock->device.lock;
	config.opaque = &vsock->device;
	result = vsock_muxer_create(&config, &vsock->muxer, err);
	if (result)
		goto fini_device;
	*out = &vsock->device;
	return 0;

fini_device:
	virtio_device_fini(&vsock->device);
free_vsock:
	free(vsock);
	return result;
}

void virtio_vsock_remove_socket(struct virtio_device *device)
{
	vsock_muxer_remove_socket(to_vsock(device)->muxer);
}
