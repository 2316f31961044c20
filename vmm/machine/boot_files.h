/*
 * The kernel that lies beside a disk: `ebb run --disk debian.raw` alone boots debian.vmlinuz, with
 * debian.initrd and the command line in debian.cmdline where they exist. guest-images/debian.sh
 * leaves them there.
 *
 * The rule goes by names on the host alone. Nothing on the disk is looked at: a guest writes that,
 * and must not choose what the host reads.
 */
#ifndef EBB_VMM_MACHINE_BOOT_FILES_H
#define EBB_VMM_MACHINE_BOOT_FILES_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/* The strings that boot_files_find() put into the configuration. Starts all NULL. */
struct boot_files {
	char *kernel;
	char *initrd;
	char *cmdline;
};

/*
 * If @config names no kernel, takes the one beside its first disk, whose name must end in .raw, and
 * says so in the log; likewise the initrd and the command line, unless @config has them. 0, or
 * -errno with the reason in @err, -ENOENT if there is none: then @files is empty. After success
 * @files is for boot_files_release(), when @config is no longer used.
 */
int boot_files_find(struct vm_config *config, struct boot_files *files, struct error *err);

void boot_files_release(struct boot_files *files);

#endif
