#include "arch/x86_64/device_tree.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/platform.h"
#include "vmm/base/checked.h"

#define PHANDLE_IOAPIC   1
#define INTERRUPT_RISING 0 /* sense of intel,ce4100-ioapic: rising edge */
#define ISA_IO           1 /* first address cell of the ISA binding: I/O space */
#define ISA_NODE         "isa@1,0"
#define ISA_PORTS        0x10000
#define NODE_NAME_MAX    64
#define UART_CLOCK_HZ    1843200

/* A tree being written. The first failure sticks; what follows does nothing. */
struct writer {
	void *fdt;
	int error; /* 0 or -FDT_ERR_* */
};

static void note(struct writer *w, int result)
{
	if (w->error == 0 && result < 0)
		w->error = result;
}

static void begin(struct writer *w, const char *name)
{
	if (w->error == 0)
		note(w, fdt_begin_node(w->fdt, name));
}

/* "NAME@ADDRESS". */
static void begin_at(struct writer *w, const char *name, uint64_t address)
{
	char text[NODE_NAME_MAX];

	snprintf(text, sizeof(text), "%s@%llx", name, (unsigned long long)address);
	begin(w, text);
}

static void end(struct writer *w)
{
	if (w->error == 0)
		note(w, fdt_end_node(w->fdt));
}

static void put_string(struct writer *w, const char *name, const char *value)
{
	if (w->error == 0)
		note(w, fdt_property_string(w->fdt, name, value));
}

static void put_empty(struct writer *w, const char *name)
{
	if (w->error == 0)
		note(w, fdt_property(w->fdt, name, NULL, 0));
}

static void put_u32(struct writer *w, const char *name, uint32_t value)
{
	if (w->error == 0)
		note(w, fdt_property_u32(w->fdt, name, value));
}

static void put_u64(struct writer *w, const char *name, uint64_t value)
{
	if (w->error == 0)
		note(w, fdt_property_u64(w->fdt, name, value));
}

static void put_cells(struct writer *w, const char *name, const uint32_t *cells, size_t count)
{
	fdt32_t *out;
	void *room;

	if (w->error == 0)
		note(w, fdt_property_placeholder(w->fdt, name, (int)(count * sizeof(*out)), &room));
	if (w->error != 0)
		return;
	out = room;
	for (size_t i = 0; i < count; i++)
		out[i] = cpu_to_fdt32(cells[i]);
}

static void put_address_cells(struct writer *w, uint32_t address_cells, uint32_t size_cells)
{
	put_u32(w, "#address-cells", address_cells);
	put_u32(w, "#size-cells", size_cells);
}

/* reg of a node whose bus has two address and two size cells. */
static void put_reg64(struct writer *w, uint64_t base, uint64_t size)
{
	uint32_t cells[] = {(uint32_t)(base >> 32), (uint32_t)base, (uint32_t)(size >> 32),
			    (uint32_t)size};

	put_cells(w, "reg", cells, ARRAY_SIZE(cells));
}

static void put_interrupt(struct writer *w, uint32_t gsi)
{
	uint32_t cells[] = {gsi, INTERRUPT_RISING};

	put_cells(w, "interrupts", cells, ARRAY_SIZE(cells));
}

static void write_chosen(struct writer *w, const struct platform *platform)
{
	char stdout_path[NODE_NAME_MAX];

	snprintf(stdout_path, sizeof(stdout_path), "/" ISA_NODE "/serial@%x,%x", ISA_IO,
		 PLATFORM_SERIAL_PORT);
	begin(w, "chosen");
	put_string(w, "bootargs", platform->cmdline ? platform->cmdline : "");
	put_string(w, "stdout-path", stdout_path);
	if (platform->initrd_size != 0) {
		put_u64(w, "linux,initrd-start", platform->initrd_start);
		put_u64(w, "linux,initrd-end", platform->initrd_start + platform->initrd_size);
	}
	end(w);
}

static void write_memory(struct writer *w, const struct guest_memory *memory)
{
	for (size_t i = 0; i < guest_memory_region_count(memory); i++) {
		const struct guest_memory_region *region = guest_memory_region(memory, i);

		begin_at(w, "memory", region->base);
		put_string(w, "device_type", "memory");
		put_reg64(w, region->base, region->size);
		end(w);
	}

	begin(w, "reserved-memory");
	put_address_cells(w, 2, 2);
	put_empty(w, "ranges");
	begin_at(w, "boot", BOOT_DTB);
	put_reg64(w, BOOT_DTB, BOOT_HIGH - BOOT_DTB);
	end(w);
	end(w);
}

static void write_cpus(struct writer *w, unsigned cpus)
{
	begin(w, "cpus");
	put_address_cells(w, 1, 0);
	for (unsigned i = 0; i < cpus; i++) {
		begin_at(w, "cpu", i);
		put_string(w, "device_type", "cpu");
		put_string(w, "compatible", "x86-64");
		put_u32(w, "reg", i);
		end(w);
	}
	end(w);
}

static void write_mmio_device(struct writer *w, const struct platform_device *device)
{
	begin_at(w, device->name, device->base);
	put_string(w, "compatible", device->compatible);
	put_reg64(w, device->base, device->size);
	if (device->gsi >= 0)
		put_interrupt(w, (uint32_t)device->gsi);
	if (device->base == PLATFORM_IOAPIC_BASE) {
		put_empty(w, "interrupt-controller");
		put_address_cells(w, 0, 0);
		put_u32(w, "#interrupt-cells", 2);
		put_u32(w, "phandle", PHANDLE_IOAPIC);
	}
	end(w);
}

static void write_virtio(struct writer *w, unsigned slot)
{
	begin_at(w, "virtio_mmio", platform_virtio_base(slot));
	put_string(w, "compatible", "virtio,mmio");
	put_reg64(w, platform_virtio_base(slot), PLATFORM_VIRTIO_SIZE);
	put_interrupt(w, platform_virtio_gsi(slot));
	put_empty(w, "dma-coherent");
	end(w);
}

static void write_soc(struct writer *w, const struct platform *platform)
{
	size_t count;
	const struct platform_device *devices = platform_devices(&count);

	begin(w, "soc");
	put_string(w, "compatible", "simple-bus");
	put_address_cells(w, 2, 2);
	put_empty(w, "ranges");
	for (size_t i = 0; i < count; i++) {
		if (devices[i].bus == PLATFORM_BUS_MMIO)
			write_mmio_device(w, &devices[i]);
	}
	for (unsigned slot = 0; slot < PLATFORM_VIRTIO_SLOTS; slot++) {
		if (platform->virtio_slots & 1u << slot)
			write_virtio(w, slot);
	}
	end(w);
}

static void write_pio_device(struct writer *w, const struct platform_device *device)
{
	char name[NODE_NAME_MAX];
	uint32_t reg[] = {ISA_IO, (uint32_t)device->base, (uint32_t)device->size};

	snprintf(name, sizeof(name), "%s@%x,%x", device->name, ISA_IO, reg[1]);
	begin(w, name);
	put_string(w, "compatible", device->compatible);
	put_cells(w, "reg", reg, ARRAY_SIZE(reg));
	if (device->gsi >= 0)
		put_interrupt(w, (uint32_t)device->gsi);
	if (device->base == PLATFORM_SERIAL_PORT) {
		put_u32(w, "clock-frequency", UART_CLOCK_HZ);
		put_u32(w, "current-speed", 115200);
	}
	end(w);
}

/* Ports are addresses of their own kind: an ISA bus whose I/O space starts at port 0. */
static void write_isa(struct writer *w)
{
	size_t count;
	const struct platform_device *devices = platform_devices(&count);
	const uint32_t ranges[] = {ISA_IO, 0, 0, 0, ISA_PORTS};

	begin(w, ISA_NODE);
	put_string(w, "compatible", "isa");
	put_string(w, "device_type", "isa");
	put_address_cells(w, 2, 1);
	put_cells(w, "ranges", ranges, ARRAY_SIZE(ranges));
	for (size_t i = 0; i < count; i++) {
		if (devices[i].bus == PLATFORM_BUS_PIO)
			write_pio_device(w, &devices[i]);
	}
	end(w);
}

static void write_tree(struct writer *w, const struct platform *platform)
{
	note(w, fdt_create(w->fdt, DEVICE_TREE_SIZE_MAX));
	if (w->error == 0)
		note(w, fdt_finish_reservemap(w->fdt));
	begin(w, "");
	put_string(w, "compatible", "ebb,x86-64");
	put_string(w, "model", "ebb virtual machine");
	put_address_cells(w, 2, 2);
	put_u32(w, "interrupt-parent", PHANDLE_IOAPIC);
	write_chosen(w, platform);
	write_memory(w, platform->memory);
	write_cpus(w, platform->cpus);
	write_soc(w, platform);
	write_isa(w);
	end(w);
	if (w->error == 0)
		note(w, fdt_finish(w->fdt));
}

int device_tree_build(const struct platform *platform, void **blob, size_t *size)
{
	if (platform->cpus == 0 || platform->cpus > PLATFORM_CPUS_MAX)
		return -EINVAL;

	struct writer w = {.fdt = calloc(1, DEVICE_TREE_SIZE_MAX)};
	if (!w.fdt)
		return -ENOMEM;

	write_tree(&w, platform);
	if (w.error != 0) {
		/* Its room is bounded and everything but the command line is ours. */
		free(w.fdt);
		return -EINVAL;
	}
	*blob = w.fdt;
	*size = fdt_totalsize(w.fdt);
	return 0;
}
