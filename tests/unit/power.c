#include "devices/power.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>

#include <cmocka.h>

#include <sys/eventfd.h>

#include "vmm/base/log.h"

#define S5         5u
#define SLP_EN     0x20u
#define SLP_TYP(t) ((t) << 2)

struct fixture {
	struct power *power;
	unsigned poweroffs;
};

static void on_poweroff(void *opaque)
{
	((struct fixture *)opaque)->poweroffs++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	*state = &fixture;
	return power_create(S5, on_poweroff, &fixture, &fixture.power);
}

static int teardown(void **state)
{
	power_destroy(((struct fixture *)*state)->power);
	return 0;
}

static void control(struct fixture *fixture, uint8_t value)
{
	power_control_bus_ops.write(fixture->power, 0, value, 1);
}

static bool interrupted(struct fixture *fixture)
{
	eventfd_t count;

	return eventfd_read(power_irq_fd(fixture->power), &count) == 0;
}

static void s5_powers_off(void **state)
{
	struct fixture *fixture = *state;

	control(fixture, SLP_TYP(S5) | SLP_EN);
	assert_int_equal(fixture->poweroffs, 1);
}

static void the_type_alone_does_nothing(void **state)
{
	struct fixture *fixture = *state;

	control(fixture, SLP_TYP(S5));
	assert_int_equal(fixture->poweroffs, 0);
	assert_int_equal(power_control_bus_ops.read(fixture->power, 0, 1), SLP_TYP(S5));
}

static void other_sleep_types_are_ignored(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned type = 0; type < 8; type++) {
		if (type != S5)
			control(fixture, (uint8_t)(SLP_TYP(type) | SLP_EN));
	}
	assert_int_equal(fixture->poweroffs, 0);
}

static void sleep_enable_reads_as_zero(void **state)
{
	struct fixture *fixture = *state;

	control(fixture, SLP_TYP(3) | SLP_EN | 0xc3);
	assert_int_equal(power_control_bus_ops.read(fixture->power, 0, 1), SLP_TYP(3));
}

static void the_status_never_tells_of_a_wake_up(void **state)
{
	struct fixture *fixture = *state;

	power_status_bus_ops.write(fixture->power, 0, 0xff, 1);
	assert_int_equal(power_status_bus_ops.read(fixture->power, 0, 1), 0);
}

static void the_button_interrupts(void **state)
{
	struct fixture *fixture = *state;

	assert_false(interrupted(fixture));
	power_button_press(fixture->power);
	assert_true(interrupted(fixture));
}

static void a_reset_forgets_the_button(void **state)
{
	struct fixture *fixture = *state;

	power_button_press(fixture->power);
	control(fixture, SLP_TYP(3));
	power_reset(fixture->power);

	assert_false(interrupted(fixture));
	assert_int_equal(power_control_bus_ops.read(fixture->power, 0, 1), 0);
}

static void refuses_a_type_of_more_than_three_bits(void **state)
{
	struct power *power = NULL;

	(void)state;
	assert_int_equal(power_create(8, on_poweroff, NULL, &power), -EINVAL);
	assert_null(power);
	power_destroy(NULL);
}

int main(void)
{
#define POWER_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		POWER_TEST(s5_powers_off),
		POWER_TEST(the_type_alone_does_nothing),
		POWER_TEST(other_sleep_types_are_ignored),
		POWER_TEST(sleep_enable_reads_as_zero),
		POWER_TEST(the_status_never_tells_of_a_wake_up),
		POWER_TEST(the_button_interrupts),
		POWER_TEST(a_reset_forgets_the_button),
		cmocka_unit_test(refuses_a_type_of_more_than_three_bits),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
