/*
 * What the bare guest knows of the machine: RAM, the serial port, virtio devices.
 *
 * Taken from the device tree (a PVH module whose command line is "dtb"); without one, RAM comes
 * from the PVH memory map and the rest from the fixed numbers of arch/x86_64/platform.h.
 */
#ifndef EBB_BARE_MACHINE_H
#define EBB_BARE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_RANGES_MAX  16
#define MACHINE_DEVICES_MAX 32
/* RAM above this address is left alone. */
#define MACHINE_RAM_LIMIT (64ull << 30)

struct range {
	uint64_t start, end;
};

struct machine {
	bool has_dtb;
	uint16_t serial_port;
	const char *cmdline; /* "" if there is none */
	uint64_t rsdp;
	struct range ram[MACHINE_RANGES_MAX];
	size_t ram_count;
	struct range reserved[MACHINE_RANGES_MAX]; /* parts of RAM that hold what we were given */
	size_t reserved_count;
	uint64_t virtio[MACHINE_DEVICES_MAX]; /* addresses of the MMIO transports */
	size_t virtio_count;
};

extern struct machine machine;

/* Reads what the VMM handed over. Returns NULL, or why that cannot be used. */
const char *machine_discover(uint64_t start_info);

/* Maps the RAM above 4 GiB; what lies below is mapped from the start. */
void machine_map_high_memory(void);

/* True if the whole of [start, start + length) is RAM. */
bool machine_is_ram(uint64_t start, uint64_t length);

#endif
