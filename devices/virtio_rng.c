#include "devices/virtio_rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "vmm/base/checked.h"

#define QUEUE_SIZE 64u

/* In one turn of the event loop: half a megabyte of random numbers. */
#define TURN_CHAINS_MAX 8u

struct virtio_rng {
	struct virtio_device device;
	struct virtq_chain chain; /* too large for the stack; used within serve_queue() only */
};

/* Fills the chain's writable bytes, as far as they are wanted. Returns how many were written. */
static uint32_t fill_chain(struct virtio_rng *rng)
{
	uint8_t random[256]; /* what getrandom() gives whole, without a signal cutting it short */
	uint64_t wanted = rng->chain.writable_bytes;
	uint32_t done = 0;

	if (wanted > VIRTIO_RNG_CHAIN_MAX)
		wanted = VIRTIO_RNG_CHAIN_MAX;
	while (done < wanted) {
		size_t length = wanted - done < sizeof(random) ? wanted - done : sizeof(random);
		ssize_t got = getrandom(random, length, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0 ||
		    virtq_chain_write(rng->device.memory, &rng->chain, done, random, (size_t)got))
			break;
		done += (uint32_t)got;
	}
	return done;
}

static void serve_queue(struct virtio_device *device, unsigned index)
{
	struct virtio_rng *rng = container_of(device, struct virtio_rng, device);
	struct virtqueue *queue = &device->queues[index];
	unsigned served = 0;
	int popped = 1;

	while (served < TURN_CHAINS_MAX && popped == 1) {
		popped = virtqueue_pop(queue, &rng->chain);
		if (popped == 1) {
			virtqueue_push(queue, rng->chain.head, fill_chain(rng));
			served++;
		}
	}
	if (popped == 1) /* others want the loop too */
		virtio_device_kick_queue(device, index);
	virtio_device_signal_queue(device, queue);
	if (popped < 0)
		virtio_device_needs_reset(device, "malformed request queue");
}

static void destroy(struct virtio_device *device)
{
	struct virtio_rng *rng = container_of(device, struct virtio_rng, device);

	virtio_device_fini(device);
	free(rng);
}

static const struct virtio_device_ops rng_ops = {
	.name = "virtio-rng",
	.device_id = VIRTIO_ID_RNG,
	.queue_count = 1,
	.queue_size = QUEUE_SIZE,
	.serve_queue = serve_queue,
	.destroy = destroy,
};

int virtio_rng_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct virtio_device **out)
{
	struct virtio_rng *rng = calloc(1, sizeof(*rng));
	int result;

	if (!rng)
		return -ENOMEM;
	result = virtio_device_init(&rng->device, &rng_ops, memory, io_loop, 0);
	if (result) {
		free(rng);
		return result;
	}
	*out = &rng->device;
	return 0;
}
