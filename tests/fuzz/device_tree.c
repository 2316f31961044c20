/* The device tree of any machine and command line: what is built, libfdt finds well-formed. */
#include <libfdt.h>
#include <stdlib.h>

#include "arch/x86_64/device_tree.h"
#include "arch/x86_64/memory_map.h"
#include "tests/fuzz/input.h"

#define CMDLINE_ROOM 8192u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char cmdline[CMDLINE_ROOM + 1];
	struct guest_memory_region regions[MEMORY_MAP_REGIONS_MAX];
	struct fuzz_input input = {data, size};
	struct guest_memory *memory;
	struct platform platform = {
		.cpus = fuzz_u8(&input),
		.virtio_slots = fuzz_u16(&input),
		.initrd_start = fuzz_u64(&input),
		.initrd_size = fuzz_u64(&input),
		.cmdline = cmdline,
	};
	size_t count, tree_size;
	void *tree;

	if (memory_map_layout((16ull + fuzz_u16(&input)) << 20, regions, &count) ||
	    guest_memory_create(regions, count, &memory, NULL))
		abort();
	platform.memory = memory;
	cmdline[fuzz_take(&input, cmdline, CMDLINE_ROOM)] = '\0';
	if (!device_tree_build(&platform, &tree, &tree_size)) {
		if (tree_size > DEVICE_TREE_SIZE_MAX || fdt_check_full(tree, tree_size))
			abort();
		free(tree);
	}
	guest_memory_destroy(memory);
	return 0;
}
