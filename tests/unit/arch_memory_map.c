/* Where RAM lies, around 3 GiB and 4 GiB. */
#include <errno.h>

#include "arch_image.h"

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/platform.h"
#include "arch/x86_64/platform_info.h"
#include "vmm/base/size.h"

static struct guest_memory_region regions[MEMORY_MAP_REGIONS_MAX];
static size_t count;

static void refuses_sizes_that_are_no_ram(void **state)
{
	const uint64_t sizes[] = {0, 17, 16 * MIB - 4096, 16 * MIB + 1, UINT64_MAX, 1ull << 52};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_int_equal(memory_map_layout(sizes[i], regions, &count), -EINVAL);
}

static void keeps_ram_up_to_the_hole_in_one_region(void **state)
{
	const uint64_t sizes[] = {16 * MIB, 64 * MIB, 3 * GIB - 4096, 3 * GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(memory_map_layout(sizes[i], regions, &count), 0);
		assert_int_equal(count, 1);
		assert_int_equal(regions[0].base, 0);
		assert_int_equal(regions[0].size, sizes[i]);
	}
}

static void puts_the_rest_above_4_gib(void **state)
{
	const uint64_t sizes[] = {3 * GIB + 4096, 4 * GIB, 300 * GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(memory_map_layout(sizes[i], regions, &count), 0);
		assert_int_equal(count, 2);
		assert_int_equal(regions[0].size, 3 * GIB);
		assert_int_equal(regions[1].base, 4 * GIB);
		assert_int_equal(regions[1].size, sizes[i] - 3 * GIB);
		assert_int_equal(regions[1].offset, 3 * GIB);
	}
}

static uint64_t sum_of(const struct memory_map_entry *map, size_t entries,
		       enum memory_map_type type)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < entries; i++)
		sum += map[i].type == type ? map[i].size : 0;
	return sum;
}

static void maps_all_ram_in_order_but_what_is_reserved(void **state)
{
	const uint64_t sizes[] = {16 * MIB, 3 * GIB, 3 * GIB + 4096, 5 * GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct guest_memory *memory = guest_ram(sizes[i]);
		struct memory_map_entry map[MEMORY_MAP_ENTRIES_MAX];
		size_t entries = memory_map_entries(memory, map);

		for (size_t n = 1; n < entries; n++)
			assert_true(map[n - 1].base + map[n - 1].size <= map[n].base);
		assert_int_equal(sum_of(map, entries, MEMORY_MAP_RAM),
				 sizes[i] - (BOOT_HIGH - BOOT_DTB));
		guest_memory_destroy(memory);
	}
}

static void keeps_boot_tables_and_kvm_pages_from_the_guest(void **state)
{
	struct guest_memory *memory = guest_ram(5 * GIB);
	struct memory_map_entry map[MEMORY_MAP_ENTRIES_MAX];
	size_t entries = memory_map_entries(memory, map);

	(void)state;
	assert_int_equal(map[0].base, 0);
	assert_int_equal(map[0].size, BOOT_DTB);
	assert_int_equal(map[1].type, MEMORY_MAP_RESERVED);
	assert_int_equal(map[2].type, MEMORY_MAP_ACPI);
	assert_int_equal(map[2].base, BOOT_ACPI);
	assert_int_equal(map[3].type, MEMORY_MAP_RESERVED);
	assert_int_equal(map[3].base, BOOT_ACPI_END);
	assert_int_equal(map[5].base, 0xfffbc000);
	assert_int_equal(map[5].size, 4 * 4096);
	assert_int_equal(map[5].type, MEMORY_MAP_RESERVED);
	assert_int_equal(map[entries - 1].base, 4 * GIB);
	assert_int_equal(map[entries - 1].type, MEMORY_MAP_RAM);
	guest_memory_destroy(memory);
}

static void gives_every_device_its_own_interrupt(void **state)
{
	uint64_t used = 1 << 0 | 1 << 2 | 1 << 9; /* PIT, cascade, power button */
	size_t devices;
	const struct platform_device *device = platform_devices(&devices);

	(void)state;
	for (size_t i = 0; i < devices; i++) {
		if (device[i].gsi < 0)
			continue;
		assert_true(device[i].gsi < 24);
		assert_false(used & 1ull << device[i].gsi);
		used |= 1ull << device[i].gsi;
	}
	for (unsigned slot = 0; slot < 16; slot++) {
		assert_true(platform_virtio_gsi(slot) < 24);
		assert_false(used & 1ull << platform_virtio_gsi(slot));
		used |= 1ull << platform_virtio_gsi(slot);
		assert_int_equal(platform_virtio_base(slot),
				 PLATFORM_VIRTIO_BASE + slot * PLATFORM_VIRTIO_STRIDE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_sizes_that_are_no_ram),
		cmocka_unit_test(keeps_ram_up_to_the_hole_in_one_region),
		cmocka_unit_test(puts_the_rest_above_4_gib),
		cmocka_unit_test(maps_all_ram_in_order_but_what_is_reserved),
		cmocka_unit_test(keeps_boot_tables_and_kvm_pages_from_the_guest),
		cmocka_unit_test(gives_every_device_its_own_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
