/*
 * What boot.c learns from a kernel file, whatever its format; private to the boot code.
 *
 * bzimage.c and elf.c judge a file and fill in a struct kernel; boot.c copies its segments and puts
 * the initrd, then linux_params.c or pvh.c writes what the guest is told. A struct kernel whose
 * parser returned 0 has been checked: every segment lies in the file, does not wrap, is at least as
 * large in memory as in the file, and lies between BOOT_HIGH and 4 GiB.
 */
#ifndef EBB_ARCH_KERNEL_H
#define EBB_ARCH_KERNEL_H

#include <asm/bootparam.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/x86_64/boot.h"
#include "vmm/base/error.h"

/* Linux has four or five. */
#define KERNEL_SEGMENTS_MAX 32

/* Identity-mapped, and what a 32-bit entry reaches. */
#define KERNEL_ADDRESS_LIMIT (1ull << 32)

struct kernel_segment {
	gpa_t base;
	uint64_t memory_size; /* what the file does not fill is zeros */
	uint64_t file_offset;
	uint64_t file_size;
};

struct kernel {
	enum boot_protocol protocol;
	gpa_t entry;
	struct kernel_segment segments[KERNEL_SEGMENTS_MAX];
	size_t segment_count;
	/* [start, end): all that the kernel uses before it knows what else is in memory. */
	gpa_t start;
	gpa_t end;
	gpa_t initrd_limit;        /* the initrd ends here at most */
	uint64_t cmdline_max;      /* length without the final NUL */
	struct setup_header setup; /* BOOT_LINUX64: as in the file, the rest zeros */
};

/* A file to judge. Reads are positioned; the offset of @fd is nobody's. */
struct kernel_file {
	const char *path; /* for messages */
	int fd;
	uint64_t size;
};

/* 0, or an error that names the file and says why it does not boot. */
int bzimage_parse(const struct kernel_file *file, struct kernel *kernel, struct error *err);
int elf_parse(const struct kernel_file *file, struct kernel *kernel, struct error *err);

/* Reads exactly @length bytes that lie in the file; a failure is told as the file's. */
int kernel_file_read(const struct kernel_file *file, uint64_t offset, void *buffer, size_t length,
		     struct error *err);

/* Where everything was put, for those who tell the guest. */
struct boot_contents {
	const struct platform *platform; /* with the initrd's place */
	gpa_t cmdline;
	gpa_t rsdp;
	gpa_t dtb; /* the tree itself */
	uint64_t dtb_size;
};

/* Each writes what its protocol hands over in RSI or EBX. 0 or -errno. */
int linux_params_write(const struct kernel *kernel, const struct boot_contents *contents);
int pvh_write(const struct boot_contents *contents);

#endif
