/*
 * Puts a kernel into guest RAM and says where the first vCPU starts.
 *
 * Two kinds of kernel, told apart by their first bytes:
 *
 *   bzImage   64-bit entry of the Linux/x86 boot protocol, 2.12 or later (Documentation/arch/x86/
 *             boot.rst): long mode, identity mapping of the first 4 GiB, RSI = boot_params.
 *   ELF64     an executable with the note XEN_ELFNOTE_PHYS32_ENTRY (x86/HVM direct boot, "PVH"):
 *             32-bit protected mode without paging, EBX = hvm_start_info.
 *
 * Both get ACPI tables (boot_params.acpi_rsdp_addr, hvm_start_info.rsdp_paddr), the command line,
 * the initrd and the device tree:
 *
 *   bzImage   the device tree comes as setup_data of type SETUP_DTB if the command line says
 *             "acpi=off". A kernel that uses ACPI must not find the same devices twice: it would
 *             create both and let the first claim the registers.
 *   PVH       the module list has two entries. Entry 0 is the initrd (size 0 without one, because
 *             Linux takes entry 0 for its initrd); entry 1 is the device tree, and its
 *             cmdline_paddr points to the string "dtb".
 *
 * What lies where below 1 MiB is in boot_layout.h. The initrd lies as high as the kernel allows.
 *
 * An image owns its two descriptors; it is immutable once opened, so a guest reset loads it again.
 * Everything in the files is hostile: it is checked before use, and again if the file has changed
 * since. Errors are one line for the user; codes: -ENOEXEC (not a kernel that ebb can boot), -E2BIG
 * (does not fit), -EINVAL, or what the system call said.
 */
#ifndef EBB_ARCH_BOOT_H
#define EBB_ARCH_BOOT_H

#include <stdint.h>

#include "arch/x86_64/platform_info.h"
#include "memory/guest_memory.h"
#include "vmm/base/error.h"

struct boot_image;

enum boot_protocol {
	BOOT_LINUX64,
	BOOT_PVH,
};

/* How vCPU 0 starts; cpu_initial_state() turns it into registers. */
struct boot_entry {
	enum boot_protocol protocol;
	gpa_t entry;     /* RIP */
	gpa_t parameter; /* BOOT_LINUX64: RSI, boot_params. BOOT_PVH: EBX, hvm_start_info. */
	/* The device tree as the guest sees it: what --dump-dtb writes. */
	gpa_t dtb;
	uint64_t dtb_size;
};

/*
 * Opens and judges @kernel and @initrd (NULL: none). @cmdline (NULL: empty) is copied. 0 with an
 * image that boot_image_close() frees, or -errno.
 */
int boot_image_open(const char *kernel, const char *initrd, const char *cmdline,
		    struct boot_image **out, struct error *err);

/* NULL is legal. */
void boot_image_close(struct boot_image *image);

const char *boot_image_cmdline(const struct boot_image *image);

/*
 * Writes kernel, initrd, command line, boot parameters, ACPI tables, device tree, GDT and page
 * tables into RAM that reads as zeros (fresh, or after guest_memory_discard_all()). Of @platform,
 * cpus, memory and virtio_slots count; the image's own command line and initrd are used. 0, or
 * -errno with RAM in no particular state.
 */
int boot_image_load(const struct boot_image *image, const struct platform *platform,
		    struct boot_entry *entry, struct error *err);

#endif
