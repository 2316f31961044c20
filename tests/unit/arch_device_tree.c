/* The device tree, read back with libfdt and judged by dtc. */
#include <errno.h>
#include <libfdt.h>
#include <stdlib.h>

#include "arch_image.h"

#include "arch/x86_64/device_tree.h"
#include "arch/x86_64/platform.h"
#include "vmm/base/size.h"

static struct platform platform;
static struct guest_memory *memory;
static void *tree;
static size_t size;

static int setup(void **state)
{
	(void)state;
	memory = guest_ram(5 * GIB);
	platform = (struct platform){
		.cpus = 4,
		.memory = memory,
		.cmdline = "console=ttyS0 quiet",
		.virtio_slots = 1 << 0 | 1 << 3 | 1 << 15,
		.initrd_start = 0x80000000,
		.initrd_size = 12345,
	};
	return device_tree_build(&platform, &tree, &size);
}

static int teardown(void **state)
{
	(void)state;
	free(tree);
	tree = NULL;
	guest_memory_destroy(memory);
	return 0;
}

/* Cell @index of a property. */
static uint32_t cell(int node, const char *name, int index)
{
	int length;
	const fdt32_t *cells = fdt_getprop(tree, node, name, &length);

	assert_non_null(cells);
	assert_true((index + 1) * 4 <= length);
	return fdt32_to_cpu(cells[index]);
}

static uint64_t cells64(int node, const char *name, int index)
{
	return (uint64_t)cell(node, name, index) << 32 | cell(node, name, index + 1);
}

static void dtc_accepts_it_without_a_word(void **state)
{
	char path[] = "/tmp/ebb-dtb-XXXXXX";
	char command[256], output[512];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, tree, size), (ssize_t)size);
	close(fd);
	snprintf(command, sizeof(command), "%s -I dtb -O dts -o /dev/null %s 2>&1", DTC, path);
	FILE *dtc = popen(command, "r");
	assert_non_null(dtc);
	output[fread(output, 1, sizeof(output) - 1, dtc)] = '\0';
	int status = pclose(dtc);
	unlink(path);
	assert_string_equal(output, "");
	assert_int_equal(status, 0);
}

static void states_its_true_size(void **state)
{
	(void)state;
	assert_int_equal(fdt_check_full(tree, size), 0);
	assert_int_equal(fdt_totalsize(tree), size);
	assert_true(size < DEVICE_TREE_SIZE_MAX);
}

static void passes_command_line_console_and_initrd(void **state)
{
	int chosen = fdt_path_offset(tree, "/chosen");

	(void)state;
	assert_string_equal(fdt_getprop(tree, chosen, "bootargs", NULL), "console=ttyS0 quiet");
	assert_int_equal(cells64(chosen, "linux,initrd-start", 0), 0x80000000);
	assert_int_equal(cells64(chosen, "linux,initrd-end", 0), 0x80000000 + 12345);
	int console = fdt_path_offset(tree, fdt_getprop(tree, chosen, "stdout-path", NULL));
	assert_int_equal(fdt_node_check_compatible(tree, console, "ns16550a"), 0);
}

static void says_nothing_of_an_initrd_that_is_not_there(void **state)
{
	(void)state;
	free(tree);
	platform.initrd_size = 0;
	platform.cmdline = NULL;
	assert_int_equal(device_tree_build(&platform, &tree, &size), 0);
	int chosen = fdt_path_offset(tree, "/chosen");
	assert_null(fdt_getprop(tree, chosen, "linux,initrd-start", NULL));
	assert_string_equal(fdt_getprop(tree, chosen, "bootargs", NULL), "");
}

static void describes_ram_on_both_sides_of_the_hole(void **state)
{
	int low = fdt_path_offset(tree, "/memory@0");
	int high = fdt_path_offset(tree, "/memory@100000000");

	(void)state;
	assert_int_equal(cells64(low, "reg", 2), 3 * GIB);
	assert_int_equal(cells64(high, "reg", 0), 4 * GIB);
	assert_int_equal(cells64(high, "reg", 2), 2 * GIB);
}

static void numbers_the_cpus_by_apic_id(void **state)
{
	char path[32];

	(void)state;
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/cpus/cpu@%d", i);
		assert_int_equal(cell(fdt_path_offset(tree, path), "reg", 0), i);
	}
	assert_true(fdt_path_offset(tree, "/cpus/cpu@4") < 0);
}

static void shows_the_virtio_slots_that_are_used_and_no_others(void **state)
{
	const unsigned used[] = {0, 3, 15};
	unsigned found = 0;

	(void)state;
	for (int node = fdt_node_offset_by_compatible(tree, -1, "virtio,mmio"); node >= 0;
	     node = fdt_node_offset_by_compatible(tree, node, "virtio,mmio")) {
		assert_true(found < 3);
		assert_int_equal(cells64(node, "reg", 0), platform_virtio_base(used[found]));
		assert_int_equal(cells64(node, "reg", 2), PLATFORM_VIRTIO_SIZE);
		assert_int_equal(cell(node, "interrupts", 0), platform_virtio_gsi(used[found]));
		found++;
	}
	assert_int_equal(found, 3);
}

static void holds_every_device_of_the_table(void **state)
{
	size_t count;
	const struct platform_device *devices = platform_devices(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		const struct platform_device *device = &devices[i];
		int node = fdt_node_offset_by_compatible(tree, -1, device->compatible);

		assert_true(node >= 0);
		if (device->bus == PLATFORM_BUS_MMIO) {
			assert_int_equal(cells64(node, "reg", 0), device->base);
			assert_int_equal(cells64(node, "reg", 2), device->size);
		} else {
			assert_int_equal(cell(node, "reg", 0), 1);
			assert_int_equal(cell(node, "reg", 1), device->base);
			assert_int_equal(cell(node, "reg", 2), device->size);
		}
		if (device->gsi >= 0)
			assert_int_equal(cell(node, "interrupts", 0), device->gsi);
	}
}

static void refuses_what_does_not_fit(void **state)
{
	static char line[DEVICE_TREE_SIZE_MAX];
	void *other = NULL;
	size_t other_size;

	(void)state;
	memset(line, 'a', sizeof(line) - 1);
	platform.cmdline = line;
	assert_int_equal(device_tree_build(&platform, &other, &other_size), -EINVAL);
	platform.cmdline = NULL;
	platform.cpus = 65;
	assert_int_equal(device_tree_build(&platform, &other, &other_size), -EINVAL);
	assert_null(other);
}

static void has_room_for_the_largest_machine(void **state)
{
	static char line[64 * 1024];

	(void)state;
	memset(line, 'a', sizeof(line) - 1);
	free(tree);
	platform.cmdline = line;
	platform.cpus = PLATFORM_CPUS_MAX;
	platform.virtio_slots = 0xffff;
	assert_int_equal(device_tree_build(&platform, &tree, &size), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dtc_accepts_it_without_a_word),
		TEST(states_its_true_size),
		TEST(passes_command_line_console_and_initrd),
		TEST(says_nothing_of_an_initrd_that_is_not_there),
		TEST(describes_ram_on_both_sides_of_the_hole),
		TEST(numbers_the_cpus_by_apic_id),
		TEST(shows_the_virtio_slots_that_are_used_and_no_others),
		TEST(holds_every_device_of_the_table),
		TEST(refuses_what_does_not_fit),
		TEST(has_room_for_the_largest_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
