#include "tests/fuzz/guest.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>

#include "vmm/base/log.h"

#define RING_BYTES  0x1000u
#define RING_AVAIL  0x400u
#define RING_USED   0x800u
#define RINGS       0x10000u
#define DATA        0x20000u
#define BUFFERS     0x80000u /* for pieces of requests, one after the other */
#define BUFFER_MAX  63u
#define TABLE       0x7000u /* an indirect one */
#define CHAIN_MAX   8u
#define ACTIONS_MAX 512u

#define LIVE                                                                                       \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK |      \
	 VIRTIO_CONFIG_S_DRIVER_OK)

static void write_register(struct fuzz_guest *guest, uint64_t offset, uint64_t value)
{
	virtio_mmio_bus_ops.write(guest->mmio, offset, value, 4);
}

void fuzz_guest_create(struct fuzz_guest *guest)
{
	const struct guest_memory_region region = {.size = FUZZ_RAM};

	*guest = (struct fuzz_guest){0};
	log_set_level(LOG_LEVEL_ERROR);
	if (guest_memory_create(&region, 1, &guest->memory, NULL) ||
	    event_loop_create(&guest->loop))
		abort();
}

void fuzz_guest_turn(struct fuzz_guest *guest)
{
	event_loop_stop(guest->loop);
	event_loop_run(guest->loop);
}

static void set_up_queue(struct fuzz_guest *guest, unsigned queue)
{
	uint32_t base = RINGS + queue * RING_BYTES;

	write_register(guest, VIRTIO_MMIO_QUEUE_SEL, queue);
	write_register(guest, VIRTIO_MMIO_QUEUE_NUM, FUZZ_QUEUE_SIZE);
	write_register(guest, VIRTIO_MMIO_QUEUE_DESC_LOW, base);
	write_register(guest, VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + RING_AVAIL);
	write_register(guest, VIRTIO_MMIO_QUEUE_USED_LOW, base + RING_USED);
	write_register(guest, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* What a well-behaved driver does first. @keep_out: features that it does not take. */
static void bring_up(struct fuzz_guest *guest, uint64_t keep_out)
{
	uint64_t features = virtio_mmio_device(guest->mmio)->offered_features & ~keep_out;

	features |= VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	write_register(guest, VIRTIO_MMIO_STATUS, 0);
	write_register(guest, VIRTIO_MMIO_STATUS, LIVE & 3);
	for (unsigned half = 0; half < 2; half++) {
		write_register(guest, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
		write_register(guest, VIRTIO_MMIO_DRIVER_FEATURES,
			       (uint32_t)(features >> 32 * half));
	}
	write_register(guest, VIRTIO_MMIO_STATUS, LIVE & ~VIRTIO_CONFIG_S_DRIVER_OK);
	for (unsigned queue = 0; queue < virtio_mmio_queue_count(guest->mmio); queue++) {
		set_up_queue(guest, queue);
		guest->next_available[queue] = 0;
	}
	write_register(guest, VIRTIO_MMIO_STATUS, LIVE);
	fuzz_guest_turn(guest);
}

/* Mostly an address in the data area, sometimes anything. */
static gpa_t take_address(struct fuzz_input *input)
{
	uint8_t kind = fuzz_u8(input);

	if (kind < 0xe0)
		return DATA + ((gpa_t)kind << 8);
	if (kind < 0xf0)
		return FUZZ_RAM - fuzz_u8(input);
	return fuzz_u64(input);
}

static uint32_t take_length(struct fuzz_input *input)
{
	uint8_t kind = fuzz_u8(input);

	if (kind < 0xe0)
		return kind;
	return kind < 0xf8 ? (uint32_t)fuzz_u16(input) : fuzz_u32(input);
}

/* The contents of a buffer that the device shall read, short and at its beginning. */
static void fill_buffer(struct fuzz_guest *guest, struct fuzz_input *input, gpa_t gpa)
{
	uint8_t bytes[64];
	size_t length = fuzz_take(input, bytes, fuzz_u8(input) % sizeof(bytes));

	guest_memory_write(guest->memory, gpa, bytes, length);
}

static struct vring_desc take_descriptor(struct fuzz_guest *guest, struct fuzz_input *input,
					 uint16_t index, bool last)
{
	uint8_t flags = fuzz_u8(input);
	struct vring_desc descriptor = {
		.addr = take_address(input),
		.len = take_length(input),
		.flags = flags & VRING_DESC_F_WRITE,
		.next = (uint16_t)((index + 1) % FUZZ_QUEUE_SIZE),
	};

	if (!last)
		descriptor.flags |= VRING_DESC_F_NEXT;
	if (flags >= 0xf0) { /* out of order */
		descriptor.flags = fuzz_u16(input);
		descriptor.next = fuzz_u16(input);
	}
	if (!(descriptor.flags & VRING_DESC_F_WRITE))
		fill_buffer(guest, input, descriptor.addr);
	return descriptor;
}

static void make_available(struct fuzz_guest *guest, unsigned queue, uint16_t head)
{
	gpa_t ring = RINGS + queue * RING_BYTES + RING_AVAIL;
	uint16_t *available = &guest->next_available[queue];

	guest_memory_store(guest->memory, ring + 4 + 2 * (*available % FUZZ_QUEUE_SIZE), 2, head);
	guest_memory_store(guest->memory, ring + 2, 2, ++*available);
	write_register(guest, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

/* Descriptor @head of the queue at @ring: the @count descriptors at @table. */
static void write_indirect(struct fuzz_guest *guest, gpa_t ring, uint16_t head, gpa_t table,
			   unsigned count)
{
	const struct vring_desc descriptor = {
		.addr = table,
		.len = (uint32_t)(count * sizeof(descriptor)),
		.flags = VRING_DESC_F_INDIRECT,
	};

	guest_memory_write(guest->memory, ring + head * sizeof(descriptor), &descriptor,
			   sizeof(descriptor));
}

/* A chain from the first descriptor on, made available. */
static void add_chain(struct fuzz_guest *guest, struct fuzz_input *input)
{
	unsigned queue = fuzz_u8(input) % virtio_mmio_queue_count(guest->mmio);
	unsigned count = 1 + fuzz_u8(input) % CHAIN_MAX;
	uint16_t head = fuzz_u8(input) % (FUZZ_QUEUE_SIZE - CHAIN_MAX);
	gpa_t base = RINGS + queue * RING_BYTES;

	for (unsigned i = 0; i < count; i++) {
		uint16_t index = (uint16_t)(head + i);
		const struct vring_desc descriptor =
			take_descriptor(guest, input, index, i + 1 == count);

		guest_memory_write(guest->memory, base + index * sizeof(descriptor), &descriptor,
				   sizeof(descriptor));
	}
	make_available(guest, queue, head);
}

/* Where the piece lies. */
static gpa_t place_piece(struct fuzz_guest *guest, const struct fuzz_piece *piece)
{
	gpa_t gpa = BUFFERS + (gpa_t)(guest->next_buffer++ % BUFFER_MAX) * FUZZ_PIECE_MAX;

	if (piece->data)
		guest_memory_write(guest->memory, gpa, piece->data, piece->length);
	return gpa;
}

gpa_t fuzz_guest_send(struct fuzz_guest *guest, struct fuzz_input *input, unsigned queue,
		      const struct fuzz_piece *pieces, unsigned count)
{
	uint8_t shape = fuzz_u8(input);
	bool indirect = shape & 1;
	unsigned damaged = shape < 0xe0 ? count : shape % count;
	uint16_t head = guest->next_descriptor;
	gpa_t ring = RINGS + queue * RING_BYTES;
	gpa_t table = indirect ? TABLE + head * CHAIN_MAX * sizeof(struct vring_desc) : ring;
	gpa_t first = 0;

	for (unsigned i = 0; i < count; i++) {
		uint16_t index = (uint16_t)(indirect ? i : (head + i) % FUZZ_QUEUE_SIZE);
		uint16_t next = (uint16_t)(indirect ? i + 1 : (index + 1) % FUZZ_QUEUE_SIZE);
		struct vring_desc descriptor = {
			.addr = place_piece(guest, &pieces[i]),
			.len = pieces[i].length,
			.flags = pieces[i].data ? 0 : VRING_DESC_F_WRITE,
			.next = next,
		};

		if (!i)
			first = descriptor.addr;
		if (i + 1 < count)
			descriptor.flags |= VRING_DESC_F_NEXT;
		if (i == damaged)
			descriptor = take_descriptor(guest, input, index, i + 1 == count);
		guest_memory_write(guest->memory, table + index * sizeof(descriptor), &descriptor,
				   sizeof(descriptor));
	}
	if (indirect)
		write_indirect(guest, ring, head, table, count);
	guest->next_descriptor = (uint16_t)((head + (indirect ? 1 : count)) % FUZZ_QUEUE_SIZE);
	make_available(guest, queue, head);
	return first;
}

static uint64_t load(const struct fuzz_guest *guest, gpa_t gpa, unsigned size)
{
	uint64_t value = 0;

	guest_memory_read(guest->memory, gpa, &value, size);
	return value;
}

bool fuzz_guest_is_idle(const struct fuzz_guest *guest, unsigned queue)
{
	return load(guest, RINGS + queue * RING_BYTES + RING_USED + 2, 2) ==
	       guest->next_available[queue];
}

gpa_t fuzz_guest_last_used(const struct fuzz_guest *guest, unsigned queue)
{
	gpa_t ring = RINGS + queue * RING_BYTES;
	uint16_t used = (uint16_t)load(guest, ring + RING_USED + 2, 2);
	gpa_t element = ring + RING_USED + 4 + 8 * ((used - 1u) % FUZZ_QUEUE_SIZE);
	uint64_t head = load(guest, element, 4) % FUZZ_QUEUE_SIZE;
	gpa_t gpa = load(guest, ring + head * sizeof(struct vring_desc), 8);

	/* In an indirect table: its first buffer. */
	if (gpa >= TABLE && gpa < RINGS)
		gpa = load(guest, gpa, 8);
	return used ? gpa : 0;
}

static void poke_ram(struct fuzz_guest *guest, struct fuzz_input *input)
{
	gpa_t gpa = RINGS + fuzz_u16(input);
	uint8_t bytes[32];
	size_t length = fuzz_take(input, bytes, 1 + fuzz_u8(input) % sizeof(bytes));

	guest_memory_write(guest->memory, gpa, bytes, length);
}

static void poke_register(struct fuzz_guest *guest, struct fuzz_input *input)
{
	unsigned size = fuzz_access_size(input);
	uint64_t offset = fuzz_u16(input) % (VIRTIO_MMIO_SIZE - size + 1);

	if (fuzz_u8(input) & 1)
		virtio_mmio_bus_ops.write(guest->mmio, offset, fuzz_u64(input), size);
	else
		virtio_mmio_bus_ops.read(guest->mmio, offset, size);
}

static void act(struct fuzz_guest *guest, struct fuzz_input *input)
{
	switch (fuzz_u8(input) & 7) {
	case 0:
		poke_register(guest, input);
		break;
	case 1:
		poke_ram(guest, input);
		break;
	case 2:
		add_chain(guest, input);
		break;
	case 3:
		if (guest->request)
			guest->request(guest, input);
		else
			add_chain(guest, input);
		break;
	case 4:
		if (guest->host)
			guest->host(guest, input);
		break;
	case 5:
		if (!(fuzz_u8(input) & 7))
			bring_up(guest, fuzz_u64(input));
		break;
	default:
		fuzz_guest_turn(guest);
		break;
	}
}

void fuzz_guest_run(struct fuzz_guest *guest, struct virtio_device *device,
		    struct fuzz_input *input)
{
	if (virtio_mmio_create(device, guest->loop, &guest->mmio))
		abort();
	bring_up(guest, 0);
	for (unsigned i = 0; i < ACTIONS_MAX && fuzz_more(input); i++)
		act(guest, input);
	fuzz_guest_turn(guest);
	virtio_mmio_destroy(guest->mmio);
	event_loop_destroy(guest->loop);
	guest_memory_destroy(guest->memory);
}
