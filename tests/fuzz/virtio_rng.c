/* The entropy device under a hostile driver. */
#include "devices/virtio_rng.h"

#include <stdlib.h>

#include "tests/fuzz/guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	fuzz_guest_create(&guest);
	if (virtio_rng_create(guest.memory, guest.loop, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	return 0;
}
