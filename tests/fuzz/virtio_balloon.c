/* The balloon under a hostile driver, its target set from the host's side. */
#include "devices/virtio_balloon.h"

#include <stdlib.h>

#include "tests/fuzz/guest.h"

static void set_target(struct fuzz_guest *guest, struct fuzz_input *input)
{
	struct virtio_device *device = virtio_mmio_device(guest->mmio);
	struct virtio_balloon_status status;

	virtio_balloon_set_target(device, fuzz_u32(input));
	virtio_balloon_get_status(device, &status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	fuzz_guest_create(&guest);
	guest.host = set_target;
	if (virtio_balloon_create(guest.memory, guest.loop, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	return 0;
}
