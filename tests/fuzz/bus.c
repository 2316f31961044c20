/* Devices at any place, accesses at any other: an answer comes from the right one or from nobody. */
#include "devices/bus.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

#define DEVICES_MAX 32

struct range {
	uint64_t base, size;
};

static void check_access(const struct range *range, uint64_t offset, unsigned size)
{
	if (offset >= range->size || size > range->size - offset)
		abort();
}

static uint64_t on_read(void *device, uint64_t offset, unsigned size)
{
	check_access(device, offset, size);
	return offset;
}

static void on_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	(void)value;
	check_access(device, offset, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct bus_ops ops = {on_read, on_write};
	struct fuzz_input input = {data, size};
	struct range ranges[DEVICES_MAX];
	unsigned devices = fuzz_u8(&input) % DEVICES_MAX;
	struct bus *bus;

	if (bus_create(&bus))
		abort();
	for (unsigned i = 0; i < devices; i++) {
		ranges[i] = (struct range){fuzz_u64(&input), fuzz_u16(&input)};
		if (fuzz_u8(&input) & 1)
			ranges[i].base &= 0xffff;
		bus_attach(bus, ranges[i].base, ranges[i].size, &ops, &ranges[i], "fuzz");
	}
	while (fuzz_more(&input)) {
		uint64_t address = fuzz_u64(&input), value;
		unsigned access = fuzz_u8(&input);

		if (access & 0x80)
			address &= 0xffff;
		bus_read(bus, address, &value, access & 15);
		bus_write(bus, address, value, access & 15);
	}
	bus_destroy(bus);
	return 0;
}
