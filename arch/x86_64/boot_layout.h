/*
 * What boot.c writes below 1 MiB, and where. Kernels are never loaded there.
 *
 * Only the device tree and the ACPI tables lie in memory that the guest is told to leave alone: a
 * guest may use the rest as soon as it has read what it needs.
 */
#ifndef EBB_ARCH_BOOT_LAYOUT_H
#define EBB_ARCH_BOOT_LAYOUT_H

#define BOOT_GDT          0x00500 /* 4 descriptors */
#define BOOT_GDT_ENTRIES  4
#define BOOT_START_INFO   0x06000 /* PVH: hvm_start_info, module list, memory map; one page */
#define BOOT_STACK_TOP    0x06000
#define BOOT_PARAMS       0x07000 /* Linux: the zero page */
#define BOOT_PAGE_TABLES  0x08000 /* PML4, PDPT, four page directories: 4 GiB by 2 MiB pages */
#define BOOT_PAGE_DIRS    4
#define BOOT_CMDLINE      0x10000
#define BOOT_CMDLINE_ROOM 0x10000
#define BOOT_DTB          0x80000 /* Linux: struct setup_data; the tree follows at BOOT_DTB_BLOB */
#define BOOT_DTB_BLOB     0x80010
#define BOOT_DTB_END      0xa0000 /* reserved in e820 from BOOT_DTB to here, and on to 1 MiB */
#define BOOT_ACPI         0xe0000 /* RSDP and the other tables, e820 type 3 */
#define BOOT_ACPI_END     0xf0000
#define BOOT_RESET_VECTOR 0xffff0  /* firmware's place (reserved in e820): code that resets */
#define BOOT_HIGH         0x100000 /* kernel and initrd lie above */

/* Selectors in the GDT: index 1 is free so that code and data are 0x10 and 0x18 (boot.rst). */
#define BOOT_CODE_SELECTOR 0x10
#define BOOT_DATA_SELECTOR 0x18

#endif
