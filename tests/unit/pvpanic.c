#include "devices/pvpanic.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct fixture {
	struct pvpanic *pvpanic;
	unsigned panics;
	unsigned crash_kernels;
};

static void on_panic(void *opaque, bool crash_loaded)
{
	struct fixture *fixture = opaque;

	fixture->panics++;
	fixture->crash_kernels += crash_loaded;
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	*state = &fixture;
	return pvpanic_create(on_panic, &fixture, &fixture.pvpanic);
}

static int teardown(void **state)
{
	pvpanic_destroy(((struct fixture *)*state)->pvpanic);
	return 0;
}

static void reading_gives_what_can_be_told(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(pvpanic_bus_ops.read(fixture->pvpanic, 0, 1), 0x03);
}

static void panic_is_told(void **state)
{
	struct fixture *fixture = *state;

	pvpanic_bus_ops.write(fixture->pvpanic, 0, 0x01, 1);
	assert_int_equal(fixture->panics, 1);
	assert_int_equal(fixture->crash_kernels, 0);
}

static void loaded_crash_kernel_is_told(void **state)
{
	struct fixture *fixture = *state;

	pvpanic_bus_ops.write(fixture->pvpanic, 0, 0x02, 1);
	assert_int_equal(fixture->panics, 1);
	assert_int_equal(fixture->crash_kernels, 1);
}

static void unknown_events_are_ignored(void **state)
{
	struct fixture *fixture = *state;

	pvpanic_bus_ops.write(fixture->pvpanic, 0, 0x00, 1);
	pvpanic_bus_ops.write(fixture->pvpanic, 0, 0xfc, 1);
	assert_int_equal(fixture->panics, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reading_gives_what_can_be_told, setup, teardown),
		cmocka_unit_test_setup_teardown(panic_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(loaded_crash_kernel_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_events_are_ignored, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
