/* Where guest RAM lies, and what the kernel is told about it (e820). */
#ifndef EBB_ARCH_MEMORY_MAP_H
#define EBB_ARCH_MEMORY_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"

/* RAM is split at the MMIO hole: at most two regions. */
#define MEMORY_MAP_REGIONS_MAX 2

/*
 * Regions for @size bytes of RAM (page-aligned, at least 16 MiB): below 3 GiB, the rest from 4 GiB up.
 * 0 with *count regions, or -EINVAL.
 */
int memory_map_layout(uint64_t size,
		      struct guest_memory_region regions[static MEMORY_MAP_REGIONS_MAX],
		      size_t *count);

#endif
