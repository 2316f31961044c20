#include "attack_driver.h"

#include "machine.h"
#include "runtime.h"

#define ID_NET     1
#define ID_CONSOLE 3
#define ID_RNG     4
#define ID_VSOCK   19

#define BLOCK_GET_ID 8

uint8_t attack_data[8192] __attribute__((aligned(4096)));
/* The second one is for a device that works beside the one under attack. */
static struct virtq arenas[2][ATTACK_QUEUES_MAX];

void attacker_write(struct attacker *a, uint32_t reg, uint32_t value)
{
	mmio_write32(a->base + reg, value);
}

void attacker_write64(struct attacker *a, uint32_t reg, uint64_t value)
{
	mmio_write32(a->base + reg, (uint32_t)value);
	mmio_write32(a->base + reg + 4, (uint32_t)(value >> 32));
}

void attacker_touch(uint64_t address, unsigned size, bool write)
{
	uint64_t value = 0;

	if (write) {
		if (size == 1)
			__asm__ volatile("movb %b0, (%1)" : : "q"(value), "r"(address) : "memory");
		else if (size == 2)
			__asm__ volatile("movw %w0, (%1)" : : "r"(value), "r"(address) : "memory");
		else if (size == 4)
			__asm__ volatile("movl %k0, (%1)" : : "r"(value), "r"(address) : "memory");
		else
			__asm__ volatile("movq %0, (%1)" : : "r"(value), "r"(address) : "memory");
	} else {
		if (size == 1)
			__asm__ volatile("movb (%1), %b0" : "=q"(value) : "r"(address) : "memory");
		else if (size == 2)
			__asm__ volatile("movw (%1), %w0" : "=r"(value) : "r"(address) : "memory");
		else if (size == 4)
			__asm__ volatile("movl (%1), %k0" : "=r"(value) : "r"(address) : "memory");
		else
			__asm__ volatile("movq (%1), %0" : "=r"(value) : "r"(address) : "memory");
	}
}

static bool take(struct attacker *a, uint64_t base, struct virtq *rings)
{
	memset(a, 0, sizeof(*a));
	a->base = base;
	a->device_id = virtio_device_id(base);
	if (!a->device_id)
		return false;
	mmio_write32(base + REG_STATUS, 0);
	while (a->queue_count < ATTACK_QUEUES_MAX) {
		mmio_write32(base + REG_QUEUE_SELECT, a->queue_count);
		if (!mmio_read32(base + REG_QUEUE_MAX))
			break;
		a->queues[a->queue_count] = &rings[a->queue_count];
		a->queue_count++;
	}
	return true;
}

bool attacker_take(struct attacker *a, uint64_t base)
{
	return take(a, base, arenas[0]);
}

bool attacker_find(struct attacker *a, uint32_t device_id, bool beside)
{
	for (size_t i = 0; i < machine.virtio_count; i++)
		if (virtio_device_id(machine.virtio[i]) == device_id)
			return take(a, machine.virtio[i], arenas[beside]);
	return false;
}

uint32_t attacker_eager_queues(const struct attacker *a)
{
	switch (a->device_id) {
	case ID_RNG:
	case VIRTIO_ID_BLOCK:
		return 1;
	case VIRTIO_ID_BALLOON:
		return 1 | 2; /* inflate, deflate */
	case ID_NET:
	case ID_CONSOLE:
	case ID_VSOCK:
		return 2; /* transmit */
	default:
		return 0;
	}
}

void attacker_begin(struct attacker *a)
{
	uint64_t features = virtio_offered(a->base);

	memset(attack_data, 0, sizeof(attack_data));
	for (unsigned i = 0; i < a->queue_count; i++)
		memset(a->queues[i], 0, sizeof(*a->queues[i]));
	attacker_write(a, REG_STATUS, 0);
	attacker_write(a, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	attacker_write(a, REG_DRIVER_SELECT, 0);
	attacker_write(a, REG_DRIVER, (uint32_t)features);
	attacker_write(a, REG_DRIVER_SELECT, 1);
	attacker_write(a, REG_DRIVER, (uint32_t)(features >> 32));
	attacker_write(a, REG_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
}

void attacker_finish(struct attacker *a)
{
	attacker_write(a, REG_STATUS,
		       STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

const char *attacker_bring_up(struct attacker *a)
{
	attacker_begin(a);
	for (unsigned i = 0; i < a->queue_count; i++) {
		struct virtq *queue = a->queues[i];

		attacker_write(a, REG_QUEUE_SELECT, i);
		attacker_write(a, REG_QUEUE_SIZE, ATTACK_QUEUE_SIZE);
		attacker_write64(a, REG_QUEUE_DESC, (uint64_t)queue->desc);
		attacker_write64(a, REG_QUEUE_DRIVER, (uint64_t)&queue->avail);
		attacker_write64(a, REG_QUEUE_DEVICE, (uint64_t)&queue->used);
		attacker_write(a, REG_QUEUE_READY, 1);
		if (!mmio_read32(a->base + REG_QUEUE_READY))
			return "the device takes no queue";
	}
	attacker_finish(a);
	if (mmio_read32(a->base + REG_STATUS) !=
	    (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK))
		return "the device does not come up";
	return NULL;
}

void attacker_set_desc(struct attacker *a, unsigned queue, uint16_t index, uint64_t address,
		       uint32_t length, uint16_t flags, uint16_t next)
{
	a->queues[queue]->desc[index] = (struct virtq_desc){address, length, flags, next};
}

void attacker_publish(struct attacker *a, unsigned queue, uint16_t head)
{
	struct virtq *q = a->queues[queue];

	q->avail.ring[q->avail.index % ATTACK_QUEUE_SIZE] = head;
	__atomic_store_n(&q->avail.index, (uint16_t)(q->avail.index + 1), __ATOMIC_SEQ_CST);
}

void attacker_kick(struct attacker *a, uint32_t queue)
{
	attacker_write(a, REG_QUEUE_NOTIFY, queue);
}

bool attacker_is_broken(const struct attacker *a)
{
	return mmio_read32(a->base + REG_STATUS) & VIRTIO_STATUS_NEEDS_RESET;
}

uint16_t attacker_used(const struct attacker *a, unsigned queue)
{
	return __atomic_load_n(&a->queues[queue]->used.index, __ATOMIC_ACQUIRE);
}

static void rest(void)
{
	for (unsigned i = 0; i < 1000; i++)
		cpu_pause();
}

bool attacker_await(const struct attacker *a, unsigned queue, uint16_t count, uint64_t cycles)
{
	for (uint64_t start = rdtsc(); attacker_used(a, queue) != count; rest())
		if (rdtsc() - start > cycles || attacker_is_broken(a))
			return false;
	return true;
}

void attacker_settle(struct attacker *a, unsigned queue)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < ATTACK_MOMENT && !attacker_used(a, queue) &&
	       !attacker_is_broken(a))
		rest();
}

bool attacker_wait_broken(const struct attacker *a)
{
	for (uint64_t start = rdtsc(); rdtsc() - start < ATTACK_TIMEOUT; rest())
		if (attacker_is_broken(a))
			return true;
	return false;
}

/* One legal request that the device answers without anybody's help; 0: there is none. */
static unsigned useful_request(struct attacker *a, unsigned *queue)
{
	uint64_t buffer = (uint64_t)attack_data;

	*queue = 0;
	switch (a->device_id) {
	case ID_RNG:
		attacker_set_desc(a, 0, 0, buffer, 64, VIRTQ_DESC_WRITE, 0);
		return 1;
	case VIRTIO_ID_BLOCK:
		*(uint32_t *)guest_pointer(buffer) = BLOCK_GET_ID;
		attacker_set_desc(a, 0, 0, buffer, 16, VIRTQ_DESC_NEXT, 1);
		attacker_set_desc(a, 0, 1, buffer + 64, 20, VIRTQ_DESC_NEXT | VIRTQ_DESC_WRITE, 2);
		attacker_set_desc(a, 0, 2, buffer + 128, 1, VIRTQ_DESC_WRITE, 0);
		return 1;
	case VIRTIO_ID_BALLOON: /* the page that the request itself lies in is not given away */
		*(uint32_t *)guest_pointer(buffer) = (uint32_t)((buffer + PAGE_SIZE) / PAGE_SIZE);
		attacker_set_desc(a, 0, 0, buffer, 4, 0, 0);
		return 1;
	case ID_NET: /* a header, and a frame to nobody */
		*queue = 1;
		memset(attack_data, 0, 128);
		attacker_set_desc(a, 1, 0, buffer, 12 + 60, 0, 0);
		return 1;
	case ID_CONSOLE:
		*queue = 1;
		memset(attack_data, '.', 16);
		attacker_set_desc(a, 1, 0, buffer, 16, 0, 0);
		return 1;
	case ID_VSOCK: /* a packet to nobody */
		*queue = 1;
		memset(attack_data, 0, 64);
		attacker_set_desc(a, 1, 0, buffer, 44, 0, 0);
		return 1;
	default:
		return 0;
	}
}

const char *attacker_check_health(struct attacker *a)
{
	const char *problem = attacker_bring_up(a);
	unsigned queue;

	if (problem || !useful_request(a, &queue))
		return problem;
	attacker_publish(a, queue, 0);
	attacker_kick(a, queue);
	for (uint64_t start = rdtsc(); !attacker_used(a, queue); rest()) {
		if (attacker_is_broken(a))
			return "a legal request breaks the device";
		if (rdtsc() - start > ATTACK_TIMEOUT)
			return "a legal request is not answered";
	}
	return NULL;
}
