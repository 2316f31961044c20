#include "devices/bus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* A device that remembers what was asked of it. */
struct probe {
	uint64_t offset;
	uint64_t value;
	unsigned size;
	unsigned calls;
};

static uint64_t probe_read(void *device, uint64_t offset, unsigned size)
{
	struct probe *probe = device;

	probe->offset = offset;
	probe->size = size;
	probe->calls++;
	return probe->value;
}

static void probe_write(void *device, uint64_t offset, uint64_t value, unsigned size)
{
	struct probe *probe = device;

	probe->offset = offset;
	probe->size = size;
	probe->value = value;
	probe->calls++;
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

static int setup(void **state)
{
	struct bus *bus = NULL;

	if (bus_create(&bus))
		return -1;
	*state = bus;
	return 0;
}

static int teardown(void **state)
{
	bus_destroy(*state);
	return 0;
}

static void attach(struct bus *bus, uint64_t base, uint64_t size, struct probe *probe)
{
	assert_int_equal(bus_attach(bus, base, size, &probe_ops, probe, "probe"), 0);
}

static void gives_the_device_an_offset_from_its_base(void **state)
{
	struct probe probe = {.value = 0x12};
	uint64_t value = 0;

	attach(*state, 0x3f8, 8, &probe);

	assert_int_equal(bus_read(*state, 0x3fd, &value, 1), 0);
	assert_int_equal(value, 0x12);
	assert_int_equal(probe.offset, 5);
	assert_int_equal(probe.size, 1);
}

static void passes_writes_cut_to_their_size(void **state)
{
	struct probe probe = {0};

	attach(*state, 0x1000, 0x100, &probe);

	assert_int_equal(bus_write(*state, 0x1010, 0xaabbccddeeff1122ull, 2), 0);
	assert_int_equal(probe.value, 0x1122);
	assert_int_equal(bus_write(*state, 0x1010, 0xaabbccddeeff1122ull, 8), 0);
	assert_int_equal(probe.value, 0xaabbccddeeff1122ull);
}

static void cuts_what_a_device_reads_to_the_size(void **state)
{
	struct probe probe = {.value = 0xaabbccdd};
	uint64_t value = 0;

	attach(*state, 0x1000, 0x100, &probe);

	assert_int_equal(bus_read(*state, 0x1000, &value, 1), 0);
	assert_int_equal(value, 0xdd);
}

static void finds_each_of_many_devices(void **state)
{
	/* In an order that is neither ascending nor descending, touching each other. */
	static const uint64_t bases[] = {0x500, 0x100, 0x700, 0x300, 0x200, 0x600, 0x400};
	struct probe probes[7] = {0};
	uint64_t value;

	for (size_t i = 0; i < 7; i++)
		attach(*state, bases[i], 0x100, &probes[i]);

	for (size_t i = 0; i < 7; i++) {
		assert_int_equal(bus_read(*state, bases[i], &value, 4), 0);
		assert_int_equal(bus_read(*state, bases[i] + 0xfc, &value, 4), 0);
		assert_int_equal(probes[i].offset, 0xfc);
		assert_int_equal(probes[i].calls, 2);
	}
}

static void reads_all_ones_where_no_device_is(void **state)
{
	struct probe probe = {0};
	uint64_t value = 0;

	attach(*state, 0x100, 0x10, &probe);

	assert_int_equal(bus_read(*state, 0xff, &value, 1), -ENXIO);
	assert_int_equal(value, 0xff);
	assert_int_equal(bus_read(*state, 0x110, &value, 4), -ENXIO);
	assert_int_equal(value, 0xffffffff);
	assert_int_equal(bus_read(*state, 0, &value, 8), -ENXIO);
	assert_true(value == UINT64_MAX);
	assert_int_equal(probe.calls, 0);
}

static void ignores_writes_where_no_device_is(void **state)
{
	assert_int_equal(bus_write(*state, 0x80, 1, 1), -ENXIO);
}

static void refuses_an_access_that_leaves_the_device(void **state)
{
	struct probe low = {0}, high = {0};
	uint64_t value;

	attach(*state, 0x100, 0x10, &low);
	attach(*state, 0x110, 0x10, &high);

	assert_int_equal(bus_read(*state, 0x10e, &value, 4), -ENXIO);
	assert_int_equal(bus_read(*state, 0xfe, &value, 4), -ENXIO);
	assert_int_equal(bus_write(*state, 0x11f, 0, 2), -ENXIO);
	assert_int_equal(low.calls + high.calls, 0);
}

static void refuses_odd_sizes(void **state)
{
	static const unsigned sizes[] = {0, 3, 5, 6, 7, 9, 16};
	struct probe probe = {0};
	uint64_t value;

	attach(*state, 0x100, 0x100, &probe);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(bus_read(*state, 0x100, &value, sizes[i]), -EINVAL);
		assert_int_equal(bus_write(*state, 0x100, 0, sizes[i]), -EINVAL);
	}
	assert_int_equal(probe.calls, 0);
}

static void refuses_empty_and_wrapping_ranges(void **state)
{
	struct probe probe;

	assert_int_equal(bus_attach(*state, 0x100, 0, &probe_ops, &probe, "empty"), -EINVAL);
	assert_int_equal(bus_attach(*state, UINT64_MAX, 2, &probe_ops, &probe, "wraps"), -EINVAL);
	assert_int_equal(bus_attach(*state, 2, UINT64_MAX, &probe_ops, &probe, "wraps"), -EINVAL);
}

static void refuses_ranges_that_overlap(void **state)
{
	struct probe probe;

	attach(*state, 0x100, 0x100, &probe);

	assert_int_equal(bus_attach(*state, 0x100, 0x100, &probe_ops, &probe, "same"), -EEXIST);
	assert_int_equal(bus_attach(*state, 0x1ff, 1, &probe_ops, &probe, "end"), -EEXIST);
	assert_int_equal(bus_attach(*state, 0xff, 2, &probe_ops, &probe, "start"), -EEXIST);
	assert_int_equal(bus_attach(*state, 0, 0x1000, &probe_ops, &probe, "around"), -EEXIST);
	assert_int_equal(bus_attach(*state, 0x140, 1, &probe_ops, &probe, "inside"), -EEXIST);
	assert_int_equal(bus_attach(*state, 0x200, 1, &probe_ops, &probe, "behind"), 0);
}

static void serves_the_last_byte_of_the_address_space(void **state)
{
	struct probe probe = {.value = 7};
	uint64_t value;

	attach(*state, UINT64_MAX, 1, &probe);

	assert_int_equal(bus_read(*state, UINT64_MAX, &value, 1), 0);
	assert_int_equal(value, 7);
	assert_int_equal(bus_read(*state, UINT64_MAX, &value, 2), -ENXIO);
}

static void destroying_nothing_is_legal(void **state)
{
	(void)state;
	bus_destroy(NULL);
}

int main(void)
{
#define BUS_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		BUS_TEST(gives_the_device_an_offset_from_its_base),
		BUS_TEST(passes_writes_cut_to_their_size),
		BUS_TEST(cuts_what_a_device_reads_to_the_size),
		BUS_TEST(finds_each_of_many_devices),
		BUS_TEST(reads_all_ones_where_no_device_is),
		BUS_TEST(ignores_writes_where_no_device_is),
		BUS_TEST(refuses_an_access_that_leaves_the_device),
		BUS_TEST(refuses_odd_sizes),
		BUS_TEST(refuses_empty_and_wrapping_ranges),
		BUS_TEST(refuses_ranges_that_overlap),
		BUS_TEST(serves_the_last_byte_of_the_address_space),
		cmocka_unit_test(destroying_nothing_is_legal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
