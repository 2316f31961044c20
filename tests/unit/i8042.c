#include "devices/i8042.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/eventfd.h>

#define OUTPUT_FULL 0x01u
#define SYSTEM      0x04u
#define AUX_OUTPUT  0x20u
#define TIMEOUT     0x40u

struct fixture {
	struct i8042 *i8042;
	unsigned resets;
};

static void on_reset(void *opaque)
{
	((struct fixture *)opaque)->resets++;
}

static int setup(void **state)
{
	static struct fixture fixture;

	fixture = (struct fixture){0};
	*state = &fixture;
	return i8042_create(on_reset, &fixture, &fixture.i8042);
}

static int teardown(void **state)
{
	i8042_destroy(((struct fixture *)*state)->i8042);
	return 0;
}

static uint8_t status(struct fixture *fixture)
{
	return (uint8_t)i8042_command_bus_ops.read(fixture->i8042, 0, 1);
}

static uint8_t data(struct fixture *fixture)
{
	return (uint8_t)i8042_data_bus_ops.read(fixture->i8042, 0, 1);
}

static void command(struct fixture *fixture, uint8_t value)
{
	i8042_command_bus_ops.write(fixture->i8042, 0, value, 1);
}

static void send(struct fixture *fixture, uint8_t value)
{
	i8042_data_bus_ops.write(fixture->i8042, 0, value, 1);
}

static bool interrupted(struct fixture *fixture)
{
	eventfd_t count;

	return eventfd_read(i8042_irq_fd(fixture->i8042), &count) == 0;
}

static void has_nothing_to_say_at_first(void **state)
{
	assert_int_equal(status(*state) & OUTPUT_FULL, 0);
	assert_false(interrupted(*state));
}

static void passes_its_self_test(void **state)
{
	command(*state, 0xaa);

	assert_true(status(*state) & OUTPUT_FULL);
	assert_int_equal(data(*state), 0x55);
	assert_false(status(*state) & OUTPUT_FULL);
}

static void passes_the_keyboard_interface_test(void **state)
{
	command(*state, 0xab);
	assert_int_equal(data(*state), 0x00);
}

static void keeps_the_command_byte(void **state)
{
	command(*state, 0x60);
	send(*state, 0x74);
	command(*state, 0x20);

	assert_int_equal(data(*state), 0x74);
	assert_true(status(*state) & SYSTEM);
}

static void keeps_its_memory(void **state)
{
	command(*state, 0x7f);
	send(*state, 0xa5);
	command(*state, 0x3f);
	assert_int_equal(data(*state), 0xa5);
}

static void disables_and_enables_its_ports(void **state)
{
	command(*state, 0xad);
	command(*state, 0xa7);
	command(*state, 0x20);
	assert_int_equal(data(*state) & 0x30, 0x30);
	command(*state, 0xae);
	command(*state, 0xa8);
	command(*state, 0x20);
	assert_int_equal(data(*state) & 0x30, 0);
}

static void pulse_fe_resets_the_machine(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0xfe);
	assert_int_equal(fixture->resets, 1);
}

static void other_pulses_do_not(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0xff);
	command(fixture, 0xf1);
	assert_int_equal(fixture->resets, 0);
}

static void the_output_port_resets_it_too(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0xd1);
	send(fixture, 0x03);
	assert_int_equal(fixture->resets, 0);
	command(fixture, 0xd1);
	send(fixture, 0x02);
	assert_int_equal(fixture->resets, 1);
}

static void the_mouse_port_is_found_missing_without_a_wait(void **state)
{
	/* What is sent around must not come back marked as the mouse's … */
	command(*state, 0xd3);
	send(*state, 0x5a);
	assert_int_equal(status(*state) & (OUTPUT_FULL | AUX_OUTPUT), OUTPUT_FULL);
	assert_int_equal(data(*state), 0x5a);
	/* … and the port's test fails. */
	command(*state, 0xa9);
	assert_true(status(*state) & OUTPUT_FULL);
	assert_int_equal(data(*state), 0x01);
}

static void the_keyboard_times_out_at_once(void **state)
{
	send(*state, 0xf2);

	assert_true(interrupted(*state));
	assert_int_equal(status(*state) & (OUTPUT_FULL | AUX_OUTPUT | TIMEOUT),
			 OUTPUT_FULL | TIMEOUT);
	assert_int_equal(data(*state), 0xfe);
	assert_int_equal(status(*state) & (OUTPUT_FULL | TIMEOUT), 0);
}

static void the_mouse_times_out_at_once(void **state)
{
	command(*state, 0xd4);
	send(*state, 0xff);

	assert_int_equal(status(*state) & (OUTPUT_FULL | AUX_OUTPUT | TIMEOUT),
			 OUTPUT_FULL | AUX_OUTPUT | TIMEOUT);
	assert_int_equal(data(*state), 0xfe);
}

static void it_interrupts_only_if_the_command_byte_says_so(void **state)
{
	command(*state, 0x60);
	send(*state, 0x00);
	send(*state, 0xf2);
	assert_false(interrupted(*state));
}

static void an_unknown_command_harms_nothing(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned value = 0; value < 0xf0; value++) {
		command(fixture, (uint8_t)value);
		if (value != 0xd1)
			send(fixture, 0);
		data(fixture);
	}
	assert_int_equal(fixture->resets, 0);
}

static void a_reset_forgets_a_half_command(void **state)
{
	struct fixture *fixture = *state;

	command(fixture, 0x60);
	i8042_reset(fixture->i8042);
	send(fixture, 0x00);

	assert_int_equal(data(fixture), 0xfe); /* went to the keyboard */
	command(fixture, 0x20);
	assert_int_equal(data(fixture), 0x05);
	i8042_destroy(NULL);
}

int main(void)
{
#define I8042_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		I8042_TEST(has_nothing_to_say_at_first),
		I8042_TEST(passes_its_self_test),
		I8042_TEST(passes_the_keyboard_interface_test),
		I8042_TEST(keeps_the_command_byte),
		I8042_TEST(keeps_its_memory),
		I8042_TEST(disables_and_enables_its_ports),
		I8042_TEST(pulse_fe_resets_the_machine),
		I8042_TEST(other_pulses_do_not),
		I8042_TEST(the_output_port_resets_it_too),
		I8042_TEST(the_mouse_port_is_found_missing_without_a_wait),
		I8042_TEST(the_keyboard_times_out_at_once),
		I8042_TEST(the_mouse_times_out_at_once),
		I8042_TEST(it_interrupts_only_if_the_command_byte_says_so),
		I8042_TEST(an_unknown_command_harms_nothing),
		I8042_TEST(a_reset_forgets_a_half_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
