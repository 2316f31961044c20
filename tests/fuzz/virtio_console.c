/* The console under a hostile driver, with a host that takes a part and types. */
#include "devices/virtio_console.h"

#include <stdlib.h>

#include "tests/fuzz/guest.h"

static size_t take_half(void *opaque, const uint8_t *data, size_t length)
{
	(void)opaque;
	(void)data;
	return length / 2;
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static void host(struct fuzz_guest *guest, struct fuzz_input *input)
{
	struct virtio_device *device = virtio_mmio_device(guest->mmio);
	uint8_t text[64];
	size_t length = fuzz_u8(input) % sizeof(text);

	fuzz_take(input, text, length);
	virtio_console_receive(device, text, length);
	virtio_console_resize(device, fuzz_u8(input), fuzz_u8(input));
	virtio_console_host_writable(device);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct virtio_console_host ends = {.write = take_half, .receivable = ignore};
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	fuzz_guest_create(&guest);
	guest.host = host;
	if (virtio_console_create(guest.memory, guest.loop, &ends, 80, 24, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	return 0;
}
