/* Where guest RAM lies, and what the kernel is told about it (e820). */
#ifndef EBB_ARCH_MEMORY_MAP_H
#define EBB_ARCH_MEMORY_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"

/* RAM is split at the MMIO hole: at most two regions. */
#define MEMORY_MAP_REGIONS_MAX 2

/*
 * Regions for @size bytes of RAM (page-aligned, at least 16 MiB): below 3 GiB, the rest from 4 GiB
 * up. 0 with *count regions, or -EINVAL.
 */
int memory_map_layout(uint64_t size,
		      struct guest_memory_region regions[static MEMORY_MAP_REGIONS_MAX],
		      size_t *count);

/* Address range types (ACPI 6.4, table 15-6); PVH's memory map uses the same numbers. */
enum memory_map_type {
	MEMORY_MAP_RAM = 1,
	MEMORY_MAP_RESERVED = 2,
	MEMORY_MAP_ACPI = 3,
};

struct memory_map_entry {
	gpa_t base;
	uint64_t size;
	enum memory_map_type type;
};

#define MEMORY_MAP_ENTRIES_MAX (GUEST_MEMORY_REGIONS_MAX + 5)

/*
 * The map a guest with @memory is told: ascending, no overlaps. Returns the number of entries. RAM
 * from BOOT_DTB to 1 MiB is kept from the guest (boot_layout.h).
 */
size_t memory_map_entries(const struct guest_memory *memory,
			  struct memory_map_entry entries[static MEMORY_MAP_ENTRIES_MAX]);

#endif
