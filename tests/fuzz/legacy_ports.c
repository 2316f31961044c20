/* pvpanic and the sleep registers: any byte, and the host's power button in between. */
#include <stdlib.h>

#include "devices/power.h"
#include "devices/pvpanic.h"
#include "tests/fuzz/input.h"

#define S5_TYPE 5

static void on_poweroff(void *opaque)
{
	++*(unsigned *)opaque;
}

static void on_panic(void *opaque, bool crash_loaded)
{
	(void)crash_loaded;
	++*(unsigned *)opaque;
}

/* One access; says how often the host may hear of it. */
static unsigned access_port(const struct bus_ops *ops, void *device, struct fuzz_input *input)
{
	if (fuzz_u8(input) & 1) {
		ops->write(device, 0, fuzz_u64(input), 1);
		return 1;
	}
	if (ops->read(device, 0, 1) > 0xff)
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct pvpanic *pvpanic;
	struct power *power;
	unsigned calls = 0;

	if (power_create(S5_TYPE, on_poweroff, &calls, &power) ||
	    pvpanic_create(on_panic, &calls, &pvpanic) || power_irq_fd(power) < 0)
		abort();
	while (fuzz_more(&input)) {
		uint8_t action = fuzz_u8(&input);
		unsigned before = calls;
		unsigned most = 0;

		if (action == 0xff)
			power_reset(power);
		else if (action >= 0xf0)
			power_button_press(power);
		else if (action % 3 == 0)
			most = access_port(&power_control_bus_ops, power, &input);
		else if (action % 3 == 1)
			most = access_port(&power_status_bus_ops, power, &input);
		else
			most = access_port(&pvpanic_bus_ops, pvpanic, &input);
		if (calls - before > most)
			abort();
	}
	pvpanic_destroy(pvpanic);
	power_destroy(power);
	return 0;
}
