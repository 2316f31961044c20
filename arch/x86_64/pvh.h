/*
 * The start of day structure of the x86/HVM direct boot ABI ("PVH"), as Xen's public headers define
 * it: little-endian, at the GPA that EBX holds when the guest starts.
 */
#ifndef EBB_ARCH_PVH_H
#define EBB_ARCH_PVH_H

#include <stdint.h>

#define PVH_MAGIC   0x336ec578
#define PVH_VERSION 1

/* The module list's fixed places. */
#define PVH_MODULE_INITRD 0 /* size 0: there is none */
#define PVH_MODULE_DTB    1 /* its command line is "dtb" */
#define PVH_MODULES       2
#define PVH_DTB_NAME      "dtb"

struct pvh_start_info {
	uint32_t magic;
	uint32_t version;
	uint32_t flags;
	uint32_t modules;
	uint64_t module_list;
	uint64_t cmdline;
	uint64_t rsdp;
	uint64_t memory_map;
	uint32_t memory_map_entries;
	uint32_t reserved;
};

struct pvh_module {
	uint64_t address;
	uint64_t size;
	uint64_t cmdline;
	uint64_t reserved;
};

struct pvh_memory_map_entry {
	uint64_t address;
	uint64_t size;
	uint32_t type; /* enum memory_map_type */
	uint32_t reserved;
};

#endif
