/*
 * Kernel images made of bytes, for the tests of arch/x86_64: a bzImage and a PVH ELF file, small
 * but well-formed, to be damaged as a test wishes. Files live in memory and are opened through
 * /proc.
 */
#ifndef EBB_TESTS_ARCH_IMAGE_H
#define EBB_TESTS_ARCH_IMAGE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/memory_map.h"

struct image_file {
	int fd;
	char path[32];
};

static inline struct image_file image_file_make(const void *bytes, size_t size)
{
	struct image_file file = {.fd = memfd_create("image", MFD_CLOEXEC)};

	assert_true(file.fd >= 0);
	assert_int_equal(pwrite(file.fd, bytes, size, 0), (ssize_t)size);
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

/* RAM of @size bytes, laid out as a machine's. */
static inline struct guest_memory *guest_ram(uint64_t size)
{
	struct guest_memory_region regions[MEMORY_MAP_REGIONS_MAX];
	struct guest_memory *memory;
	size_t count;

	assert_int_equal(memory_map_layout(size, regions, &count), 0);
	assert_int_equal(guest_memory_create(regions, count, &memory, NULL), 0);
	return memory;
}

#define BZIMAGE_SETUP   1024 /* one boot sector, one of setup code */
#define BZIMAGE_CODE    4096
#define BZIMAGE_LOAD    0x1000000u
#define BZIMAGE_RUNNING 0x200000u /* init_size */
#define BZIMAGE_CMDLINE 255

/* What stands at byte @at of the code. */
static inline uint8_t code_byte(size_t at)
{
	return (uint8_t)(at * 7 + 1);
}

struct bzimage {
	uint8_t before[0x1f1];
	struct setup_header setup;
	uint8_t after[BZIMAGE_SETUP - 0x1f1 - sizeof(struct setup_header)];
	uint8_t code[BZIMAGE_CODE];
} __attribute__((packed));

static inline void bzimage_make(struct bzimage *image)
{
	memset(image, 0, sizeof(*image));
	image->setup = (struct setup_header){
		.setup_sects = 1,
		.syssize = BZIMAGE_CODE / 16,
		.boot_flag = 0xaa55,
		.jump = (0x26c - 0x202) << 8 | 0xeb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = BZIMAGE_CMDLINE,
		.pref_address = BZIMAGE_LOAD,
		.init_size = BZIMAGE_RUNNING,
	};
	for (size_t i = 0; i < sizeof(image->code); i++)
		image->code[i] = code_byte(i);
}

#define ELF_LOAD  0x200000u
#define ELF_ENTRY 0x200010u
#define ELF_CODE  512
#define ELF_BSS   4096

struct elf_note {
	Elf64_Nhdr head;
	char name[4];
	uint32_t entry;
};

struct elf_image {
	Elf64_Ehdr header;
	Elf64_Phdr load;
	Elf64_Phdr note;
	struct elf_note notes[2];
	uint8_t code[ELF_CODE];
};

static inline void elf_make(struct elf_image *image)
{
	memset(image, 0, sizeof(*image));
	memcpy(image->header.e_ident, ELFMAG, SELFMAG);
	image->header.e_ident[EI_CLASS] = ELFCLASS64;
	image->header.e_ident[EI_DATA] = ELFDATA2LSB;
	image->header.e_ident[EI_VERSION] = EV_CURRENT;
	image->header.e_type = ET_EXEC;
	image->header.e_machine = EM_X86_64;
	image->header.e_phoff = offsetof(struct elf_image, load);
	image->header.e_phentsize = sizeof(Elf64_Phdr);
	image->header.e_phnum = 2;
	image->load = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = offsetof(struct elf_image, code),
		.p_vaddr = 0xffffffff80000000 + ELF_LOAD,
		.p_paddr = ELF_LOAD,
		.p_filesz = ELF_CODE,
		.p_memsz = ELF_CODE + ELF_BSS,
	};
	image->note = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct elf_image, notes),
		.p_filesz = sizeof(image->notes),
		.p_memsz = sizeof(image->notes),
		.p_align = 4,
	};
	image->notes[0] = (struct elf_note){.head = {4, 4, 1}, .name = "GNU", .entry = 0};
	image->notes[1] = (struct elf_note){.head = {4, 4, 18}, .name = "Xen", .entry = ELF_ENTRY};
	for (size_t i = 0; i < sizeof(image->code); i++)
		image->code[i] = code_byte(i);
}

/* Opens @size bytes as a kernel, expects @code and a message with @words, whoever's file it is. */
static inline void expect_refused(const void *bytes, size_t size, int code, const char *words)
{
	struct image_file file = image_file_make(bytes, size);
	struct boot_image *image = NULL;
	struct error err = {.text = ""};
	int r = boot_image_open(file.path, NULL, "", &image, &err);

	if (!strstr(err.text, words))
		print_error("message: %s\n", err.text);
	assert_int_equal(r, code);
	assert_null(image);
	assert_non_null(strstr(err.text, words));
	assert_non_null(strstr(err.text, file.path));
	assert_null(strchr(err.text, '\n'));
	close(file.fd);
}

/* Opens @kernel (and @initrd, NULL: none), which must succeed. */
static inline struct boot_image *open_image(const struct image_file *kernel,
					    const struct image_file *initrd, const char *cmdline)
{
	struct boot_image *image;
	struct error err = {.text = ""};
	int r = boot_image_open(kernel->path, initrd ? initrd->path : NULL, cmdline, &image, &err);

	if (r != 0)
		print_error("message: %s\n", err.text);
	assert_int_equal(r, 0);
	return image;
}

/* Loads @image into RAM of @memory, which must succeed. */
static inline struct boot_entry load_image(const struct boot_image *image,
					   const struct guest_memory *memory)
{
	struct platform platform = {.cpus = 2, .memory = memory, .virtio_slots = 1};
	struct boot_entry entry;
	struct error err = {.text = ""};
	int r = boot_image_load(image, &platform, &entry, &err);

	if (r != 0)
		print_error("message: %s\n", err.text);
	assert_int_equal(r, 0);
	return entry;
}

static inline uint64_t guest_u64(const struct guest_memory *memory, gpa_t gpa)
{
	uint64_t value;

	assert_int_equal(guest_memory_read(memory, gpa, &value, sizeof(value)), 0);
	return value;
}

#endif
