#include "arch/x86_64/memory_map.h"

#include <assert.h>
#include <errno.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/platform.h"
#include "vmm/base/checked.h"
#include "vmm/base/size.h"

#define RAM_MIN (16 * MIB)
/* CR3 and page table entries hold 52 bits of physical address. */
#define GPA_LIMIT (1ull << 52)

int memory_map_layout(uint64_t size,
		      struct guest_memory_region regions[static MEMORY_MAP_REGIONS_MAX],
		      size_t *count)
{
	if (size < RAM_MIN || !is_aligned(size, GUEST_PAGE_SIZE) ||
	    size > GPA_LIMIT - PLATFORM_MMIO_HOLE_END)
		return -EINVAL;

	uint64_t low = size < PLATFORM_MMIO_HOLE_START ? size : PLATFORM_MMIO_HOLE_START;
	regions[0] = (struct guest_memory_region){.base = 0, .size = low, .offset = 0};
	*count = 1;
	if (size > low) {
		regions[1] = (struct guest_memory_region){
			.base = PLATFORM_MMIO_HOLE_END, .size = size - low, .offset = low};
		*count = 2;
	}
	return 0;
}

static size_t append(struct memory_map_entry *entries, size_t count, gpa_t base, gpa_t end,
		     enum memory_map_type type)
{
	if (base >= end)
		return count;
	entries[count] = (struct memory_map_entry){.base = base, .size = end - base, .type = type};
	return count + 1;
}

/* The region at 0, with the part below 1 MiB that the guest must leave alone. */
static size_t append_low(struct memory_map_entry *entries, size_t count, gpa_t end)
{
	assert(end > BOOT_HIGH);
	count = append(entries, count, 0, BOOT_DTB, MEMORY_MAP_RAM);
	count = append(entries, count, BOOT_DTB, BOOT_ACPI, MEMORY_MAP_RESERVED);
	count = append(entries, count, BOOT_ACPI, BOOT_ACPI_END, MEMORY_MAP_ACPI);
	count = append(entries, count, BOOT_ACPI_END, BOOT_HIGH, MEMORY_MAP_RESERVED);
	return append(entries, count, BOOT_HIGH, end, MEMORY_MAP_RAM);
}

size_t memory_map_entries(const struct guest_memory *memory,
			  struct memory_map_entry entries[static MEMORY_MAP_ENTRIES_MAX])
{
	size_t count = 0;
	size_t i = 0;

	for (; i < guest_memory_region_count(memory); i++) {
		const struct guest_memory_region *region = guest_memory_region(memory, i);
		gpa_t end = region->base + region->size;

		if (region->base >= PLATFORM_MMIO_HOLE_END)
			break;
		if (region->base == 0)
			count = append_low(entries, count, end);
		else
			count = append(entries, count, region->base, end, MEMORY_MAP_RAM);
	}

	/* KVM's identity map (one page) and TSS (three): nothing else may be put there. */
	count = append(entries, count, PLATFORM_IDENTITY_MAP, PLATFORM_TSS + 3 * GUEST_PAGE_SIZE,
		       MEMORY_MAP_RESERVED);

	for (; i < guest_memory_region_count(memory); i++) {
		const struct guest_memory_region *region = guest_memory_region(memory, i);

		count = append(entries, count, region->base, region->base + region->size,
			       MEMORY_MAP_RAM);
	}
	return count;
}
