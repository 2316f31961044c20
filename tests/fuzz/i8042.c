/* The keyboard controller: both ports, any byte. */
#include "devices/i8042.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

static void on_reset(void *opaque)
{
	++*(unsigned *)opaque;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct i8042 *i8042;
	unsigned resets = 0;

	if (i8042_create(on_reset, &resets, &i8042))
		abort();
	while (fuzz_more(&input)) {
		uint8_t action = fuzz_u8(&input);
		const struct bus_ops *port =
			action & 1 ? &i8042_command_bus_ops : &i8042_data_bus_ops;

		if (action & 2)
			port->write(i8042, 0, fuzz_u64(&input), 1);
		else if (port->read(i8042, 0, 1) > 0xff)
			abort();
		if (action == 0xff)
			i8042_reset(i8042);
	}
	i8042_destroy(i8042);
	return 0;
}
