#include "devices/virtio_net.h"

#include <endian.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/net_header.h"
#include "vmm/base/checked.h"

#define QUEUE_SIZE VIRTQUEUE_SIZE_MAX

enum {
	QUEUE_RX,
	QUEUE_TX,
	QUEUES,
};

#define HEADER_SIZE sizeof(struct virtio_net_hdr_v1)

/* Frames of one direction in one turn of the event loop: some megabytes of the largest. */
#define TURN_FRAMES_MAX 64u

struct counters {
	_Atomic uint64_t rx_frames, rx_bytes, rx_dropped;
	_Atomic uint64_t tx_frames, tx_bytes, tx_dropped;
	atomic_bool link_up;
};

struct virtio_net {
	struct virtio_device device;
	struct net_backend *backend;
	struct event_source *source; /* NULL once the backend is gone; the I/O thread's */
	uint32_t watched;            /* EPOLL* that the source waits for; the I/O thread's */
	struct counters counters;

	/* The rest is guarded by device.lock. */
	struct virtio_net_config config;
	bool started;      /* the driver's features have been told to the backend */
	uint64_t features; /* that count, once started */
	bool tx_waits;     /* the backend takes nothing at present */
	size_t frame_size; /* of what was received and awaits buffers, with its header; 0: nothing */
	struct virtq_chain first, chain;
	struct virtq_used parts[QUEUE_SIZE]; /* buffers that have taken the frame being delivered */
	struct iovec iov[NET_FRAME_PIECES_MAX];
	_Alignas(struct virtio_net_hdr_v1) uint8_t frame[NET_FRAME_MAX];
};

enum outcome {
	DONE,    /* a frame is dealt with */
	STALLED, /* there is none, or it has to wait */
	BROKEN,  /* the driver broke the protocol */
};

static struct virtio_net *to_net(struct virtio_device *device)
{
	return container_of(device, struct virtio_net, device);
}

static void count(_Atomic uint64_t *counter, uint64_t amount)
{
	atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static void watch(struct virtio_net *net, uint32_t events)
{
	if (net->source && net->watched != events && !event_source_modify(net->source, events))
		net->watched = events;
}

/* The backend is gone for good, for @error if that is not 0: to the driver the cable is out. */
static void lose_backend(struct virtio_net *net, int error)
{
	const uint8_t *mac = net->config.mac;

	if (!net->source)
		return;
	log_warning("virtio-net %02x:%02x:%02x:%02x:%02x:%02x: its %s backend is gone%s%s; the "
		    "guest's link is down",
		    mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], net->backend->ops->name,
		    error ? ": " : "", error ? strerrordesc_np(-error) : "");
	event_source_remove(net->source);
	net->source = NULL;
	if (net->tx_waits) /* the driver kicks for later frames only */
		virtio_device_kick_queue(&net->device, QUEUE_TX);
	net->tx_waits = false;
	atomic_store(&net->counters.link_up, false);
	net->config.status = htole16(le16toh(net->config.status) & ~VIRTIO_NET_S_LINK_UP);
	virtio_device_signal_config(&net->device);
}

/* Once after each DRIVER_OK: from here on the features are settled. */
static void start(struct virtio_net *net)
{
	const struct net_backend_ops *ops = net->backend->ops;
	int result = 0;

	if (net->started)
		return;
	net->started = true;
	net->features = net_header_settle(net->device.driver_features);
	if (net->source && ops->set_offloads)
		result = ops->set_offloads(net->backend, net->features & net->backend->offloads);
	if (result && log_ratelimit_pass(&net->device.guest_errors))
		log_warning("virtio-net: the %s backend refuses the guest's offloads: %s",
			    ops->name, strerrordesc_np(-result));
}

static enum outcome drop_received(struct virtio_net *net)
{
	count(&net->counters.rx_dropped, 1);
	net->frame_size = 0;
	return DONE;
}

/* Sees to it that a frame which the driver may have is in net->frame. STALLED: there is none. */
static enum outcome fetch(struct virtio_net *net)
{
	struct virtio_net_hdr_v1 *header = (void *)net->frame;
	ssize_t size;

	if (net->frame_size)
		return DONE;
	for (unsigned tries = 0; tries < TURN_FRAMES_MAX; tries++) {
		size = net->backend->ops->receive(net->backend, net->frame);
		if (size == -EAGAIN)
			return STALLED;
		if (size < 0) {
			lose_backend(net, (int)size);
			return STALLED;
		}
		if ((size_t)size > HEADER_SIZE && (size_t)size <= NET_FRAME_MAX &&
		    net_header_check_received(header, (size_t)size - HEADER_SIZE, net->features)) {
			net->frame_size = (size_t)size;
			return DONE;
		}
		drop_received(net);
	}
	return STALLED;
}

/*
 * Takes the next buffer into @chain and fills it with the frame from @done on; the header's place is
 * left out. DONE with *written.
 */
static enum outcome fill_buffer(struct virtio_net *net, struct virtq_chain *chain, size_t done,
				uint32_t *written)
{
	size_t left = net->frame_size - done;
	size_t skip = done ? 0 : HEADER_SIZE;
	int popped = virtqueue_pop(&net->device.queues[QUEUE_RX], chain);

	if (popped == 0)
		return STALLED;
	if (popped < 0 || chain->readable || chain->writable_bytes < HEADER_SIZE) {
		virtio_device_needs_reset(&net->device, "a receive buffer is malformed");
		return BROKEN;
	}
	*written = (uint32_t)(chain->writable_bytes < left ? chain->writable_bytes : left);
	if (virtq_chain_write(net->device.memory, chain, skip, net->frame + done + skip,
			      *written - skip)) {
		virtio_device_needs_reset(&net->device, "a receive buffer is not in memory");
		return BROKEN;
	}
	return DONE;
}

static void complete_frame(struct virtio_net *net, uint16_t parts)
{
	struct virtqueue *queue = &net->device.queues[QUEUE_RX];
	struct virtio_net_hdr_v1 *header = (void *)net->frame;

	header->num_buffers = htole16(parts);
	virtq_chain_write(net->device.memory, &net->first, 0, header, HEADER_SIZE);
	/* Section 5.1.6.4.1: the driver is to find num_buffers of them as soon as it finds one. */
	virtqueue_push_many(queue, net->parts, parts);
	count(&net->counters.rx_frames, 1);
	count(&net->counters.rx_bytes, net->frame_size - HEADER_SIZE);
	net->frame_size = 0;
}

/* Hands net->frame to the driver; what does not fit into the present buffers is not begun. */
static enum outcome deliver(struct virtio_net *net)
{
	struct virtqueue *queue = &net->device.queues[QUEUE_RX];
	bool mergeable = net->features & VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF);
	uint16_t parts_max = mergeable ? queue->size : 1;
	uint16_t parts = 0;
	size_t done = 0;

	while (done < net->frame_size && parts < parts_max) {
		struct virtq_chain *chain = parts ? &net->chain : &net->first;
		uint32_t written;
		enum outcome outcome = fill_buffer(net, chain, done, &written);

		if (outcome == STALLED)
			virtqueue_unpop(queue, parts);
		if (outcome != DONE)
			return outcome;
		net->parts[parts++] = (struct virtq_used){chain->head, written};
		done += written;
	}
	if (done < net->frame_size) {
		virtqueue_unpop(queue, parts);
		return drop_received(net);
	}
	complete_frame(net, parts);
	return DONE;
}

/*
 * Moves frames from the backend to the driver. While the driver has no room, the backend is not
 * watched: its kick comes back here.
 */
static void receive(struct virtio_net *net)
{
	struct virtqueue *queue = &net->device.queues[QUEUE_RX];
	enum outcome outcome = DONE;
	uint32_t tx = net->tx_waits ? EPOLLOUT : 0;

	for (unsigned frames = 0; frames < TURN_FRAMES_MAX; frames++) {
		if (!net->source || fetch(net) != DONE)
			break;
		outcome = deliver(net);
		if (outcome != DONE)
			break;
	}
	watch(net, outcome == DONE ? EPOLLIN | tx : tx);
	virtio_device_signal_queue(&net->device, queue);
}

/* Copies and judges the header of net->chain, and finds the frame of @length bytes behind it. */
static bool prepare(struct virtio_net *net, uint64_t length, struct virtio_net_hdr_v1 *header,
		    size_t *iov_count)
{
	const struct guest_memory *memory = net->device.memory;

	return net->source && length >= ETH_HLEN && length <= NET_FRAME_MAX - HEADER_SIZE &&
	       !virtq_chain_read(memory, &net->chain, 0, header, HEADER_SIZE) &&
	       net_header_check_sent(header, length, net->features) &&
	       !virtq_chain_iovec(memory, &net->chain, false, HEADER_SIZE, length, net->iov,
				  NET_FRAME_PIECES_MAX, iov_count);
}

/* Sends net->chain: 0 (sent or dropped), or -EAGAIN. */
static int send_chain(struct virtio_net *net)
{
	uint64_t length = net->chain.readable_bytes - HEADER_SIZE;
	struct virtio_net_hdr_v1 header;
	size_t iov_count;
	int result;

	if (!prepare(net, length, &header, &iov_count)) {
		count(&net->counters.tx_dropped, 1);
		return 0;
	}
	result = net->backend->ops->send(net->backend, &header, net->iov, iov_count);
	if (result == -EAGAIN)
		return result;
	if (result) {
		lose_backend(net, result);
		count(&net->counters.tx_dropped, 1);
		return 0;
	}
	count(&net->counters.tx_frames, 1);
	count(&net->counters.tx_bytes, length);
	return 0;
}

static enum outcome transmit_one(struct virtio_net *net)
{
	struct virtqueue *queue = &net->device.queues[QUEUE_TX];
	int popped = virtqueue_pop(queue, &net->chain);

	if (popped == 0)
		return STALLED;
	if (popped < 0 || net->chain.writable || net->chain.readable_bytes < HEADER_SIZE) {
		virtio_device_needs_reset(&net->device, "a frame to send is malformed");
		return BROKEN;
	}
	if (send_chain(net)) {
		virtqueue_unpop(queue, 1);
		net->tx_waits = true;
		return STALLED;
	}
	virtqueue_push(queue, net->chain.head, 0);
	return DONE;
}

static void transmit(struct virtio_net *net)
{
	enum outcome outcome = DONE;

	net->tx_waits = false;
	for (unsigned frames = 0; frames < TURN_FRAMES_MAX && outcome == DONE; frames++)
		outcome = transmit_one(net);
	if (outcome == DONE) /* others want the loop too */
		virtio_device_kick_queue(&net->device, QUEUE_TX);
	watch(net, (net->watched & EPOLLIN) | (net->tx_waits ? EPOLLOUT : 0));
	virtio_device_signal_queue(&net->device, &net->device.queues[QUEUE_TX]);
}

static void net_serve_queue(struct virtio_device *device, unsigned index)
{
	struct virtio_net *net = to_net(device);

	start(net);
	if (index == QUEUE_RX)
		receive(net);
	else if (!net->tx_waits) /* else EPOLLOUT comes */
		transmit(net);
}

/* The driver has stopped the queue while its frames waited: room for them would be told for ever. */
static void forget_waiting(struct virtio_net *net)
{
	net->tx_waits = false;
	watch(net, net->watched & ~(uint32_t)EPOLLOUT);
}

/* Frames come, or may be sent again. */
static void on_backend(void *opaque, uint32_t events)
{
	struct virtio_net *net = opaque;
	struct virtio_device *device = &net->device;
	bool receiving = events & net->watched & EPOLLIN;
	bool live;

	pthread_mutex_lock(&device->lock);
	live = virtio_device_is_live(device) && net->started;
	if (!live)
		watch(net, 0); /* until a driver is there */
	/* An end that nobody reads up to would be told for ever. */
	if ((events & (EPOLLERR | EPOLLHUP)) && !(live && receiving))
		lose_backend(net, 0);
	if (live && net->tx_waits && (events & ~EPOLLIN)) {
		if (device->queues[QUEUE_TX].ready)
			transmit(net);
		else
			forget_waiting(net);
	}
	if (live && receiving) {
		if (device->queues[QUEUE_RX].ready)
			receive(net);
		else
			watch(net, net->watched & ~(uint32_t)EPOLLIN);
	}
	pthread_mutex_unlock(&device->lock);
}

/* The backend's source stays as it is: only the I/O thread may change it, and does when it fires. */
static int net_reset(struct virtio_device *device, uint64_t deadline)
{
	struct virtio_net *net = to_net(device);

	(void)deadline;
	net->started = false;
	net->tx_waits = false;
	net->frame_size = 0;
	return 0;
}

static void net_read_config(struct virtio_device *device, uint32_t offset, void *data,
			    unsigned size)
{
	struct virtio_net *net = to_net(device);

	virtio_device_copy_config(&net->config, sizeof(net->config), offset, data, size);
}

static void net_destroy(struct virtio_device *device)
{
	struct virtio_net *net = to_net(device);

	event_source_remove(net->source);
	net_backend_destroy(net->backend);
	virtio_device_fini(device);
	free(net);
}

static const struct virtio_device_ops net_ops = {
	.name = "virtio-net",
	.device_id = VIRTIO_ID_NET,
	.queue_count = QUEUES,
	.queue_size = QUEUE_SIZE,
	.read_config = net_read_config,
	.serve_queue = net_serve_queue,
	.reset = net_reset,
	.destroy = net_destroy,
};

static uint64_t offered_features(const struct net_backend *backend)
{
	uint64_t features = VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |
			    VIRTIO_FEATURE(VIRTIO_NET_F_MRG_RXBUF) | backend->offloads;

	return backend->mtu ? features | VIRTIO_FEATURE(VIRTIO_NET_F_MTU) : features;
}

int virtio_net_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct net_backend *backend, const uint8_t mac[VIRTIO_NET_MAC_BYTES],
		      struct virtio_device **out)
{
	struct virtio_net *net = calloc(1, sizeof(*net));
	int result;

	if (!net)
		return -ENOMEM;
	result = virtio_device_init(&net->device, &net_ops, memory, io_loop,
				    offered_features(backend));
	if (result)
		goto free_net;
	result = event_loop_add(io_loop, backend->fd, 0, on_backend, net, &net->source);
	if (result)
		goto fini_device;
	net->backend = backend;
	memcpy(net->config.mac, mac, VIRTIO_NET_MAC_BYTES);
	net->config.status = htole16(VIRTIO_NET_S_LINK_UP);
	net->config.mtu = htole16(backend->mtu);
	atomic_store(&net->counters.link_up, true);
	*out = &net->device;
	return 0;

fini_device:
	virtio_device_fini(&net->device);
free_net:
	free(net);
	return result;
}

void virtio_net_get_counters(struct virtio_device *device, struct virtio_net_counters *counters)
{
	const struct counters *from = &to_net(device)->counters;

	*counters = (struct virtio_net_counters){
		.rx_frames = atomic_load(&from->rx_frames),
		.rx_bytes = atomic_load(&from->rx_bytes),
		.rx_dropped = atomic_load(&from->rx_dropped),
		.tx_frames = atomic_load(&from->tx_frames),
		.tx_bytes = atomic_load(&from->tx_bytes),
		.tx_dropped = atomic_load(&from->tx_dropped),
		.link_up = atomic_load(&from->link_up),
	};
}
