/* The serial port: register accesses, input, a host that takes output now and then. */
#include "devices/serial.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

static size_t take_output(void *opaque, const uint8_t *data, size_t length)
{
	struct fuzz_input *input = opaque;
	size_t taken = fuzz_u8(input) % 20;

	(void)data;
	return taken < length ? taken : length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	const struct serial_host host = {.opaque = &input, .write = take_output};
	struct serial *serial;
	uint8_t bytes[40];

	if (serial_create(&host, &serial))
		abort();
	while (fuzz_more(&input)) {
		uint8_t action = fuzz_u8(&input);
		size_t length;

		switch (action >> 5) {
		case 0:
			length = fuzz_take(&input, bytes, fuzz_u8(&input) % sizeof(bytes));
			if (serial_receive(serial, bytes, length) > length)
				abort();
			break;
		case 1:
			serial_host_writable(serial);
			break;
		case 2:
			serial_reset(serial);
			break;
		case 3:
		case 4:
			if (serial_bus_ops.read(serial, action & 7, 1) > 0xff)
				abort();
			break;
		default:
			serial_bus_ops.write(serial, action & 7, fuzz_u64(&input), 1);
			break;
		}
	}
	serial_destroy(serial);
	return 0;
}
