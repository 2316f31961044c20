/* The transport's registers in any order, size and value; the queues are never set up right. */
#include "devices/virtio_mmio.h"

#include <stdlib.h>

#include "devices/virtio_rng.h"
#include "tests/fuzz/guest.h"

static void poke(struct fuzz_guest *guest, struct fuzz_input *input)
{
	unsigned size = fuzz_access_size(input);
	uint64_t offset = fuzz_u16(input) % (VIRTIO_MMIO_SIZE - size + 1);

	if (fuzz_u8(input) & 1) {
		uint64_t value = fuzz_u64(input);

		virtio_mmio_bus_ops.write(guest->mmio, offset, value, size);
		virtio_mmio_placeholder_bus_ops.write(NULL, offset, value, size);
	} else {
		virtio_mmio_bus_ops.read(guest->mmio, offset, size);
		virtio_mmio_placeholder_bus_ops.read(NULL, offset, size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	fuzz_guest_create(&guest);
	if (virtio_rng_create(guest.memory, guest.loop, &device) ||
	    virtio_mmio_create(device, guest.loop, &guest.mmio))
		abort();
	while (fuzz_more(&input)) {
		poke(&guest, &input);
		fuzz_guest_turn(&guest);
	}
	virtio_mmio_reset(guest.mmio, UINT64_MAX);
	virtio_mmio_destroy(guest.mmio);
	event_loop_destroy(guest.loop);
	guest_memory_destroy(guest.memory);
	return 0;
}
