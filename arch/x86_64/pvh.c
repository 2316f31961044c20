#include "arch/x86_64/pvh.h"

#include <assert.h>
#include <string.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/memory_map.h"

/* What lies at BOOT_START_INFO. */
struct start_of_day {
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct pvh_memory_map_entry memory_map[MEMORY_MAP_ENTRIES_MAX];
	char dtb_name[sizeof(PVH_DTB_NAME)];
};

static_assert(sizeof(struct pvh_start_info) == 56, "version 1 of the structure");
static_assert(sizeof(struct pvh_module) == 32, "PVH module list");
static_assert(sizeof(struct pvh_memory_map_entry) == 24, "PVH memory map");
static_assert(sizeof(struct start_of_day) <= GUEST_PAGE_SIZE, "one page");

#define ADDRESS_OF(member) (BOOT_START_INFO + offsetof(struct start_of_day, member))

int pvh_write(const struct boot_contents *contents)
{
	const struct platform *platform = contents->platform;
	struct memory_map_entry map[MEMORY_MAP_ENTRIES_MAX];
	size_t count = memory_map_entries(platform->memory, map);
	struct start_of_day day;

	memset(&day, 0, sizeof(day));
	day.info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = PVH_VERSION,
		.modules = PVH_MODULES,
		.module_list = ADDRESS_OF(modules),
		.cmdline = contents->cmdline,
		.rsdp = contents->rsdp,
		.memory_map = ADDRESS_OF(memory_map),
		.memory_map_entries = (uint32_t)count,
	};
	day.modules[PVH_MODULE_INITRD].address = platform->initrd_start;
	day.modules[PVH_MODULE_INITRD].size = platform->initrd_size;
	day.modules[PVH_MODULE_DTB].address = contents->dtb;
	day.modules[PVH_MODULE_DTB].size = contents->dtb_size;
	day.modules[PVH_MODULE_DTB].cmdline = ADDRESS_OF(dtb_name);
	for (size_t i = 0; i < count; i++) {
		day.memory_map[i].address = map[i].base;
		day.memory_map[i].size = map[i].size;
		day.memory_map[i].type = map[i].type;
	}
	memcpy(day.dtb_name, PVH_DTB_NAME, sizeof(day.dtb_name));
	return guest_memory_write(platform->memory, BOOT_START_INFO, &day, sizeof(day));
}
