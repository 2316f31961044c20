#include "machine.h"

#include "arch/x86_64/platform.h"
#include "fdt.h"
#include "runtime.h"

/* The PVH boot ABI (xen/include/public/arch-x86/hvm/start_info.h). */
#define START_INFO_MAGIC 0x336ec578
#define E820_RAM         1

struct start_info {
	uint32_t magic, version, flags, modules_count;
	uint64_t modules, cmdline, rsdp;
	uint64_t memory_map; /* from version 1 on */
	uint32_t memory_map_count, reserved;
};

struct start_info_module {
	uint64_t address, size, cmdline, reserved;
};

struct start_info_memory {
	uint64_t address, size;
	uint32_t type, reserved;
};

#define GIB            (1ull << 30)
#define LARGE_PAGE     (2ull << 20)
#define PTE_TABLE      0x07
#define PTE_LARGE_PAGE 0x87
#define TABLES_HIGH    (MACHINE_RAM_LIMIT / GIB - 4)

struct machine machine;

extern uint64_t page_pointers[512];
extern char image_start[], image_end[];
static uint64_t high_directories[TABLES_HIGH][512] __attribute__((aligned(4096)));

static void add_range(struct range *ranges, size_t *count, uint64_t start, uint64_t size)
{
	if (*count < MACHINE_RANGES_MAX && size && start + size > start)
		ranges[(*count)++] = (struct range){start, start + size};
}

static void add_ram(uint64_t start, uint64_t size)
{
	if (start >= MACHINE_RAM_LIMIT)
		return;
	if (size > MACHINE_RAM_LIMIT - start)
		size = MACHINE_RAM_LIMIT - start;
	add_range(machine.ram, &machine.ram_count, start, size);
}

static void reserve(uint64_t start, uint64_t size)
{
	uint64_t first = start & ~(PAGE_SIZE - 1);

	add_range(machine.reserved, &machine.reserved_count, first,
		  ((start + size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)) - first);
}

static void read_memory_map(const struct start_info *info)
{
	const struct start_info_memory *entries;

	if (info->version < 1 || !info->memory_map)
		return;
	entries = guest_pointer(info->memory_map);
	for (uint32_t i = 0; i < info->memory_map_count && i < 64; i++)
		if (entries[i].type == E820_RAM)
			add_ram(entries[i].address, entries[i].size);
}

static void read_device_tree(const void *blob, uint64_t size)
{
	struct fdt_node node;
	struct fdt fdt;
	uint64_t address, length;
	bool ram_is_known = false;

	if (!fdt_open(&fdt, blob, size))
		return;
	machine.has_dtb = true;
	while (fdt_next(&fdt, &node)) {
		if (fdt_has_string(&fdt, &node, "device_type", "memory")) {
			/* The tree's word counts: drop what the memory map said. */
			if (!ram_is_known)
				machine.ram_count = 0;
			ram_is_known = true;
			for (unsigned i = 0; fdt_reg(&fdt, &node, i, &address, &length); i++)
				add_ram(address, length);
		}
		if (!fdt_reg(&fdt, &node, 0, &address, &length))
			continue;
		if (fdt_has_string(&fdt, &node, "compatible", "virtio,mmio")) {
			if (machine.virtio_count < MACHINE_DEVICES_MAX && address < 4 * GIB)
				machine.virtio[machine.virtio_count++] = address;
		} else if (fdt_has_string(&fdt, &node, "compatible", "ns16550a") ||
			   fdt_has_string(&fdt, &node, "compatible", "ns16550")) {
			/* On an ISA bus the cell above the address says that it is a port. */
			machine.serial_port = (uint16_t)address;
		}
	}
}

static void read_modules(const struct start_info *info)
{
	const struct start_info_module *modules = guest_pointer(info->modules);

	for (uint32_t i = 0; i < info->modules_count && i < 8; i++) {
		const char *cmdline = modules[i].cmdline ? guest_pointer(modules[i].cmdline) : "";

		reserve(modules[i].address, modules[i].size);
		if (str_equal(cmdline, "dtb") && !machine.has_dtb)
			read_device_tree(guest_pointer(modules[i].address), modules[i].size);
	}
}

const char *machine_discover(uint64_t start_info)
{
	const struct start_info *info = guest_pointer(start_info);

	machine.serial_port = PLATFORM_SERIAL_PORT;
	machine.cmdline = "";
	if (!start_info || info->magic != START_INFO_MAGIC)
		return "no PVH start info";
	if (info->cmdline)
		machine.cmdline = guest_pointer(info->cmdline);
	machine.rsdp = info->rsdp;
	/* The first MiB is a PC's: boot structures and tables live there. */
	reserve(0, 1 << 20);
	reserve((uint64_t)image_start, (uint64_t)(image_end - image_start));
	reserve(start_info, sizeof(*info));
	reserve(info->modules, info->modules_count * sizeof(struct start_info_module));
	reserve(info->memory_map, info->memory_map_count * sizeof(struct start_info_memory));
	reserve(info->cmdline, strlen(machine.cmdline) + 1);
	read_memory_map(info);
	read_modules(info);
	if (!machine.has_dtb)
		for (unsigned i = 0; i < PLATFORM_VIRTIO_SLOTS; i++)
			machine.virtio[machine.virtio_count++] =
				PLATFORM_VIRTIO_BASE + i * (uint64_t)PLATFORM_VIRTIO_STRIDE;
	return machine.ram_count ? NULL : "neither device tree nor memory map tell where RAM is";
}

void machine_map_high_memory(void)
{
	for (size_t i = 0; i < machine.ram_count; i++) {
		uint64_t address = machine.ram[i].start & ~(LARGE_PAGE - 1);

		if (address < 4 * GIB)
			address = 4 * GIB;
		for (; address < machine.ram[i].end; address += LARGE_PAGE) {
			uint64_t gib = address / GIB;
			uint64_t *directory = high_directories[gib - 4];

			directory[address / LARGE_PAGE % 512] = address | PTE_LARGE_PAGE;
			page_pointers[gib] = (uint64_t)directory | PTE_TABLE;
		}
	}
	/* Only entries that were absent have changed: no TLB holds them. */
	__asm__ volatile("" : : : "memory");
}

bool machine_is_ram(uint64_t start, uint64_t length)
{
	for (size_t i = 0; i < machine.ram_count; i++)
		if (start >= machine.ram[i].start && start < machine.ram[i].end &&
		    length <= machine.ram[i].end - start)
			return true;
	return false;
}
