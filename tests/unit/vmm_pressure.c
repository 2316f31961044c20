/* What the kernel says about memory, as pressure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/base/checked.h"
#include "vmm/base/pressure.h"

static void pressure_stalls_are_read(void **state)
{
	struct pressure_reading reading;

	(void)state;
	assert_true(pressure_from_psi("some avg10=12.50 avg60=3.00 avg300=1.00 total=5\n"
				      "full avg10=1.00 avg60=0.00 avg300=0.00 total=1\n",
				      &reading));
	assert_int_equal(reading.source, PRESSURE_PSI);
	assert_int_equal(reading.level, PRESSURE_HIGH);
	assert_float_equal(reading.percent, 12.5, 1e-9);
	assert_true(pressure_from_psi("some avg10=2.01 avg60=3.00", &reading));
	assert_int_equal(reading.level, PRESSURE_MIDDLE);
	assert_true(pressure_from_psi("some avg10=0.00 avg60=3.00", &reading));
	assert_int_equal(reading.level, PRESSURE_LOW);
}

static void available_memory_is_read(void **state)
{
	struct pressure_reading reading;

	(void)state;
	assert_true(pressure_from_meminfo("MemTotal:  1000 kB\nMemFree: 7 kB\n"
					  "MemAvailable:  100 kB\n",
					  &reading));
	assert_int_equal(reading.source, PRESSURE_MEMINFO);
	assert_int_equal(reading.level, PRESSURE_HIGH);
	assert_true(pressure_from_meminfo("MemTotal: 1000 kB\nMemAvailable: 130 kB\n", &reading));
	assert_int_equal(reading.level, PRESSURE_MIDDLE);
	assert_true(pressure_from_meminfo("MemTotal: 1000 kB\nMemAvailable: 500 kB\n", &reading));
	assert_int_equal(reading.level, PRESSURE_LOW);
}

static void nonsense_is_no_pressure(void **state)
{
	static const char *const texts[] = {
		"",
		"some avg10=",
		"some avg10=x",
		"full avg10=5",
		"some avg10=-1",
		"some avg10=nan",
		"MemTotal: 0 kB\nMemAvailable: 0 kB\n",
		"MemTotal: 5 kB\nMemAvailable: 6 kB\n",
		"MemTotal: 5 kB\n",
		"MemTotal:\nMemAvailable:\n",
	};
	struct pressure_reading reading;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		assert_false(pressure_from_psi(texts[i], &reading));
		assert_false(pressure_from_meminfo(texts[i], &reading));
	}
}

static void this_host_can_be_read(void **state)
{
	struct pressure_reading reading;

	(void)state;
	pressure_read(&reading);
	assert_int_not_equal(reading.source, PRESSURE_NO_SOURCE);
	assert_true(reading.percent >= 0.0 && reading.percent <= 100.0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pressure_stalls_are_read),
		cmocka_unit_test(available_memory_is_read),
		cmocka_unit_test(nonsense_is_no_pressure),
		cmocka_unit_test(this_host_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
