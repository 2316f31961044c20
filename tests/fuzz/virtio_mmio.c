/*
 * The transport's registers in any order, size and value, in front of devices with and without a
 * configuration that can be written; now and then a step of what a driver does.
 */
#include "devices/virtio_mmio.h"

#include <linux/virtio_mmio.h>
#include <stdlib.h>

#include "devices/virtio_balloon.h"
#include "devices/virtio_console.h"
#include "devices/virtio_rng.h"
#include "tests/fuzz/guest.h"
#include "vmm/base/clock.h"

static const uint16_t registers[] = {
	VIRTIO_MMIO_MAGIC_VALUE,     VIRTIO_MMIO_VERSION,
	VIRTIO_MMIO_DEVICE_ID,       VIRTIO_MMIO_VENDOR_ID,
	VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL,
	VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
	VIRTIO_MMIO_QUEUE_SEL,       VIRTIO_MMIO_QUEUE_NUM_MAX,
	VIRTIO_MMIO_QUEUE_NUM,       VIRTIO_MMIO_QUEUE_READY,
	VIRTIO_MMIO_QUEUE_NOTIFY,    VIRTIO_MMIO_INTERRUPT_STATUS,
	VIRTIO_MMIO_INTERRUPT_ACK,   VIRTIO_MMIO_STATUS,
	VIRTIO_MMIO_QUEUE_DESC_LOW,  VIRTIO_MMIO_QUEUE_DESC_HIGH,
	VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH,
	VIRTIO_MMIO_QUEUE_USED_LOW,  VIRTIO_MMIO_QUEUE_USED_HIGH,
	VIRTIO_MMIO_SHM_SEL,         VIRTIO_MMIO_SHM_LEN_LOW,
	VIRTIO_MMIO_SHM_LEN_HIGH,    VIRTIO_MMIO_SHM_BASE_LOW,
	VIRTIO_MMIO_SHM_BASE_HIGH,   VIRTIO_MMIO_CONFIG_GENERATION,
	VIRTIO_MMIO_CONFIG,
};

#define REGISTERS (sizeof(registers) / sizeof(registers[0]))

static void access_at(struct fuzz_guest *guest, uint64_t offset, unsigned size, bool write,
		      uint64_t value)
{
	if (write) {
		virtio_mmio_bus_ops.write(guest->mmio, offset, value, size);
		virtio_mmio_placeholder_bus_ops.write(NULL, offset, value, size);
	} else {
		virtio_mmio_bus_ops.read(guest->mmio, offset, size);
		virtio_mmio_placeholder_bus_ops.read(NULL, offset, size);
	}
}

static void poke_anywhere(struct fuzz_guest *guest, struct fuzz_input *input)
{
	unsigned size = fuzz_access_size(input);
	uint64_t offset = fuzz_u16(input) % (VIRTIO_MMIO_SIZE - size + 1);
	bool write = fuzz_u8(input) & 1;

	access_at(guest, offset, size, write, write ? fuzz_u64(input) : 0);
}

static void poke_register(struct fuzz_guest *guest, struct fuzz_input *input)
{
	uint16_t offset = registers[fuzz_u8(input) % REGISTERS];
	uint8_t kind = fuzz_u8(input);

	access_at(guest, offset, 4, kind & 1, kind & 0x80 ? fuzz_u32(input) : kind >> 1);
}

static void write_register(struct fuzz_guest *guest, uint64_t offset, uint64_t value)
{
	access_at(guest, offset, 4, true, value);
}

/* Reset, then as far through the initialisation as the input wants. */
static void initialise(struct fuzz_guest *guest, struct fuzz_input *input)
{
	uint64_t features = virtio_mmio_device(guest->mmio)->offered_features;
	unsigned steps = fuzz_u8(input);

	for (unsigned status = 0; status <= (steps & 15); status = status * 2 + 1) {
		for (unsigned half = 0; status == 3 && half < 2; half++) {
			write_register(guest, VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
			write_register(guest, VIRTIO_MMIO_DRIVER_FEATURES,
				       (uint32_t)(features >> 32 * half));
		}
		/* In the order of the spec: FEATURES_OK (8) comes before DRIVER_OK (4). */
		write_register(guest, VIRTIO_MMIO_STATUS, status == 7 ? 11 : status);
	}
	if (!(steps & 0x10))
		return;
	write_register(guest, VIRTIO_MMIO_QUEUE_SEL, steps >> 5 & 3);
	write_register(guest, VIRTIO_MMIO_QUEUE_NUM, FUZZ_QUEUE_SIZE);
	write_register(guest, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
	write_register(guest, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000);
	write_register(guest, VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000);
	write_register(guest, VIRTIO_MMIO_QUEUE_READY, 1);
}

static void act(struct fuzz_guest *guest, struct fuzz_input *input)
{
	switch (fuzz_u8(input) & 7) {
	case 0:
		poke_anywhere(guest, input);
		break;
	case 1:
		initialise(guest, input);
		break;
	case 2:
		if (virtio_mmio_reset(guest->mmio, NS_PER_SEC))
			abort();
		break;
	default:
		poke_register(guest, input);
		break;
	}
	fuzz_guest_turn(guest);
}

static size_t take_all(void *opaque, const uint8_t *data, size_t length)
{
	(void)opaque;
	(void)data;
	return length;
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static struct virtio_device *make_device(const struct fuzz_guest *guest, uint8_t kind)
{
	const struct virtio_console_host ends = {.write = take_all, .receivable = ignore};
	struct virtio_device *device;
	int result;

	switch (kind & 3) {
	case 0:
		result = virtio_rng_create(guest->memory, guest->loop, &device);
		break;
	case 1:
		result = virtio_console_create(guest->memory, guest->loop, &ends, 80, 24, &device);
		break;
	default:
		result = virtio_balloon_create(guest->memory, guest->loop, &device);
		break;
	}
	if (result)
		abort();
	return device;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	fuzz_guest_create(&guest);
	device = make_device(&guest, fuzz_u8(&input));
	if (virtio_mmio_create(device, guest.loop, &guest.mmio))
		abort();
	if (virtio_mmio_irq_fd(guest.mmio) < 0 || virtio_mmio_queue_eventfd(guest.mmio, 0) < 0)
		abort();
	while (fuzz_more(&input))
		act(&guest, &input);
	virtio_mmio_reset(guest.mmio, UINT64_MAX);
	virtio_mmio_destroy(guest.mmio);
	event_loop_destroy(guest.loop);
	guest_memory_destroy(guest.memory);
	return 0;
}
