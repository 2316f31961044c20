#include "virtio.h"

#include "runtime.h"
#include "virtio_registers.h"

#define MAGIC              0x74726976
#define FEATURE_VERSION_1  (1ull << 32)
#define AVAIL_NO_INTERRUPT 1

/* About half a minute. */
#define TIMEOUT_CYCLES (1ull << 36)

#define QUEUES_MAX 40
static struct virtq queue_pool[QUEUES_MAX];

uint32_t virtio_device_id(uint64_t base)
{
	if (mmio_read32(base + REG_MAGIC) != MAGIC || mmio_read32(base + REG_VERSION) != 2)
		return 0;
	return mmio_read32(base + REG_DEVICE_ID);
}

uint64_t virtio_offered(uint64_t base)
{
	uint64_t low;

	mmio_write32(base + REG_FEATURES_SELECT, 0);
	low = mmio_read32(base + REG_FEATURES);
	mmio_write32(base + REG_FEATURES_SELECT, 1);
	return low | (uint64_t)mmio_read32(base + REG_FEATURES) << 32;
}

bool virtio_has(const struct virtio *device, unsigned feature)
{
	return device->features >> feature & 1;
}

uint32_t virtio_status(const struct virtio *device)
{
	return mmio_read32(device->base + REG_STATUS);
}

static void write_address(uint64_t reg, const void *pointer)
{
	mmio_write32(reg, (uint32_t)(uint64_t)pointer);
	mmio_write32(reg + 4, (uint32_t)((uint64_t)pointer >> 32));
}

static const char *set_up_queue(struct virtio *device, unsigned index)
{
	static unsigned pool_used;
	struct virtq *queue = device->queues[index];

	if (!queue) {
		if (pool_used == QUEUES_MAX)
			return "too many queues for this driver";
		queue = device->queues[index] = &queue_pool[pool_used++];
	}
	memset(queue, 0, sizeof(*queue));
	queue->avail.flags = AVAIL_NO_INTERRUPT;
	device->used_seen[index] = 0;
	device->notified[index] = 0;
	mmio_write32(device->base + REG_QUEUE_SELECT, index);
	if (mmio_read32(device->base + REG_QUEUE_MAX) < VIRTQ_SIZE)
		return "a queue is missing or too small";
	mmio_write32(device->base + REG_QUEUE_SIZE, VIRTQ_SIZE);
	write_address(device->base + REG_QUEUE_DESC, queue->desc);
	write_address(device->base + REG_QUEUE_DRIVER, &queue->avail);
	write_address(device->base + REG_QUEUE_DEVICE, &queue->used);
	mmio_write32(device->base + REG_QUEUE_READY, 1);
	return NULL;
}

const char *virtio_start(struct virtio *device, uint64_t base, uint64_t wanted,
			 unsigned (*queue_count)(uint64_t features))
{
	uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
	unsigned count;

	device->base = base;
	mmio_write32(base + REG_STATUS, 0);
	for (uint64_t start = rdtsc(); mmio_read32(base + REG_STATUS);)
		if (rdtsc() - start > TIMEOUT_CYCLES)
			return "the device does not reset";
	mmio_write32(base + REG_STATUS, status);
	device->features = virtio_offered(base) & (wanted | FEATURE_VERSION_1);
	if (!(device->features & FEATURE_VERSION_1))
		return "the device is no VERSION_1";
	mmio_write32(base + REG_DRIVER_SELECT, 0);
	mmio_write32(base + REG_DRIVER, (uint32_t)device->features);
	mmio_write32(base + REG_DRIVER_SELECT, 1);
	mmio_write32(base + REG_DRIVER, (uint32_t)(device->features >> 32));
	status |= STATUS_FEATURES_OK;
	mmio_write32(base + REG_STATUS, status);
	if (!(mmio_read32(base + REG_STATUS) & STATUS_FEATURES_OK))
		return "the device refuses the features it offered";
	count = queue_count(device->features);
	for (unsigned i = 0; i < count && i < VIRTIO_QUEUES_MAX; i++) {
		const char *problem = set_up_queue(device, i);

		if (problem)
			return problem;
	}
	mmio_write32(base + REG_STATUS, status | STATUS_DRIVER_OK);
	return NULL;
}

void virtio_offer(struct virtio *device, unsigned queue, uint16_t head)
{
	struct virtq *q = device->queues[queue];

	q->avail.ring[q->avail.index % VIRTQ_SIZE] = head;
	__atomic_store_n(&q->avail.index, (uint16_t)(q->avail.index + 1), __ATOMIC_SEQ_CST);
}

void virtio_notify(struct virtio *device, unsigned queue)
{
	struct virtq *q = device->queues[queue];
	uint16_t index = q->avail.index, before = device->notified[queue];
	uint16_t event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(&q->used.avail_event, __ATOMIC_RELAXED);
	device->notified[queue] = index;
	if (!virtio_has(device, VIRTIO_FEATURE_EVENT_INDEX) ||
	    (uint16_t)(index - event - 1) < (uint16_t)(index - before))
		mmio_write32(device->base + REG_QUEUE_NOTIFY, queue);
}

bool virtio_take(struct virtio *device, unsigned queue, uint16_t *head, uint32_t *length)
{
	struct virtq *q = device->queues[queue];
	uint16_t seen = device->used_seen[queue];

	if (__atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) == seen)
		return false;
	*head = (uint16_t)q->used.ring[seen % VIRTQ_SIZE].id;
	*length = q->used.ring[seen % VIRTQ_SIZE].length;
	device->used_seen[queue] = (uint16_t)(seen + 1);
	return true;
}

void virtio_submit(struct virtio *device, unsigned queue, unsigned count)
{
	struct virtq *q = device->queues[queue];

	for (unsigned i = 0; i < count; i++) {
		q->desc[i].next = (uint16_t)(i + 1);
		if (i + 1 < count)
			q->desc[i].flags |= VIRTQ_DESC_NEXT;
		else
			q->desc[i].flags &= (uint16_t)~VIRTQ_DESC_NEXT;
	}
	q->avail.ring[q->avail.index % VIRTQ_SIZE] = 0;
	__atomic_store_n(&q->avail.index, (uint16_t)(q->avail.index + 1), __ATOMIC_SEQ_CST);
	mmio_write32(device->base + REG_QUEUE_NOTIFY, queue);
}

bool virtio_is_done(struct virtio *device, unsigned queue, uint32_t *length)
{
	struct virtq *q = device->queues[queue];
	uint16_t seen = device->used_seen[queue];

	if (__atomic_load_n(&q->used.index, __ATOMIC_ACQUIRE) == seen)
		return false;
	if (length)
		*length = q->used.ring[seen % VIRTQ_SIZE].length;
	device->used_seen[queue] = (uint16_t)(seen + 1);
	return true;
}

const char *virtio_request(struct virtio *device, unsigned queue, unsigned count, uint32_t *length)
{
	uint64_t start;

	virtio_submit(device, queue, count);
	start = rdtsc();
	while (!virtio_is_done(device, queue, length)) {
		if (virtio_status(device) & VIRTIO_STATUS_NEEDS_RESET)
			return "the device needs a reset";
		if (rdtsc() - start > TIMEOUT_CYCLES)
			return "no answer from the device";
		for (unsigned i = 0; i < 1000; i++)
			cpu_pause();
	}
	return NULL;
}
