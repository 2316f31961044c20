/* ELF64 kernels with a PVH note (System V ABI, ELF; Xen's public/elfnote.h). */
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/kernel.h"
#include "vmm/base/checked.h"

#define HEADERS_MAX       128
#define NOTES_SIZE_MAX    65536ul
#define NOTE_OWNER        "Xen"
#define NOTE_PHYS32_ENTRY 18
/* Linux on x86 takes this much and would silently cut the rest. */
#define CMDLINE_MAX 2047

static const char *machine_name(unsigned machine)
{
	switch (machine) {
	case EM_386:
		return "32-bit x86 (i386)";
	case EM_AARCH64:
		return "64-bit ARM (aarch64)";
	case EM_ARM:
		return "32-bit ARM";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "64-bit PowerPC";
	case EM_PPC:
		return "32-bit PowerPC";
	case EM_S390:
		return "s390";
	case EM_MIPS:
		return "MIPS";
	case EM_LOONGARCH:
		return "LoongArch";
	default:
		return NULL;
	}
}

static int damaged(const struct kernel_file *file, struct error *err, const char *what)
{
	return error_say(err, ENOEXEC, "%s: damaged or truncated ELF file: %s", file->path, what);
}

static int check_machine(const struct kernel_file *file, const Elf64_Ehdr *header,
			 struct error *err)
{
	/* e_machine lies at the same place in both classes, in the file's byte order. */
	bool big_endian = header->e_ident[EI_DATA] == ELFDATA2MSB;
	unsigned machine = header->e_machine;
	const char *name;

	if (big_endian)
		machine = __builtin_bswap16(header->e_machine);
	name = machine_name(machine);
	if (machine != EM_X86_64 && name)
		return error_say(err, ENOEXEC, "%s: built for %s; ebb boots x86-64 kernels",
				 file->path, name);
	if (machine != EM_X86_64)
		return error_say(err, ENOEXEC,
				 "%s: built for another machine (ELF number %u); ebb boots x86-64 "
				 "kernels",
				 file->path, machine);
	if (big_endian || header->e_ident[EI_CLASS] != ELFCLASS64)
		return error_say(err, ENOEXEC, "%s: not a 64-bit little-endian ELF file",
				 file->path);
	return 0;
}

static int read_header(const struct kernel_file *file, Elf64_Ehdr *header, struct error *err)
{
	int r;

	if (file->size < sizeof(*header))
		return damaged(file, err, "it ends within its header");
	r = kernel_file_read(file, 0, header, sizeof(*header), err);
	if (r < 0)
		return r;
	r = check_machine(file, header, err);
	if (r < 0)
		return r;
	if (header->e_type == ET_REL)
		return error_say(err, ENOEXEC,
				 "%s: an object file (a kernel module?), not a kernel", file->path);
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return error_say(err, ENOEXEC, "%s: an ELF file, but not an executable",
				 file->path);
	if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 ||
	    header->e_phnum > HEADERS_MAX)
		return damaged(file, err, "its program header table makes no sense");
	if (!range_within(header->e_phoff, header->e_phnum * sizeof(Elf64_Phdr), file->size))
		return damaged(file, err, "its program headers lie outside of the file");
	return 0;
}

static int add_segment(const struct kernel_file *file, const Elf64_Phdr *header,
		       struct kernel *kernel, struct error *err)
{
	if (header->p_memsz == 0)
		return 0;
	if (header->p_filesz > header->p_memsz)
		return damaged(file, err, "a segment is larger in the file than in memory");
	if (!range_within(header->p_offset, header->p_filesz, file->size))
		return damaged(file, err, "a segment lies outside of the file");
	if (!range_within(header->p_paddr, header->p_memsz, KERNEL_ADDRESS_LIMIT))
		return error_say(err, ENOEXEC,
				 "%s: a segment wants memory at 0x%" PRIx64
				 ", above the 4 GiB that ebb loads kernels to",
				 file->path, (uint64_t)header->p_paddr);
	if (header->p_paddr < BOOT_HIGH)
		return error_say(err, ENOEXEC,
				 "%s: a segment wants memory at 0x%" PRIx64
				 ", below 1 MiB, where ebb puts the boot parameters",
				 file->path, (uint64_t)header->p_paddr);
	if (kernel->segment_count == KERNEL_SEGMENTS_MAX)
		return damaged(file, err, "it has too many segments");

	kernel->segments[kernel->segment_count++] = (struct kernel_segment){
		.base = header->p_paddr,
		.memory_size = header->p_memsz,
		.file_offset = header->p_offset,
		.file_size = header->p_filesz,
	};
	if (header->p_paddr < kernel->start)
		kernel->start = header->p_paddr;
	if (header->p_paddr + header->p_memsz > kernel->end)
		kernel->end = header->p_paddr + header->p_memsz;
	return 0;
}

/* Moves *at behind @length bytes and their padding: false if that leaves @size. */
static bool skip(uint64_t *at, uint64_t length, uint64_t alignment, uint64_t size)
{
	uint64_t padded;

	if (!range_within(*at, length, size))
		return false;
	/* The last entry's padding may be missing. */
	if (!checked_align_up(*at + length, alignment, &padded) || padded > size)
		padded = size;
	*at = padded;
	return true;
}

/* Looks through @size bytes of notes; without the one it seeks, *entry stays. */
static void find_entry_note(const uint8_t *notes, uint64_t size, uint64_t alignment, gpa_t *entry)
{
	uint64_t at = 0;

	while (range_within(at, sizeof(Elf64_Nhdr), size)) {
		Elf64_Nhdr head;
		uint64_t name, value;

		memcpy(&head, notes + at, sizeof(head));
		name = at + sizeof(head);
		value = name;
		if (!skip(&value, head.n_namesz, alignment, size))
			return;
		at = value;
		if (!skip(&at, head.n_descsz, alignment, size))
			return;
		if (head.n_type != NOTE_PHYS32_ENTRY || head.n_namesz != sizeof(NOTE_OWNER) ||
		    memcmp(notes + name, NOTE_OWNER, sizeof(NOTE_OWNER)) != 0)
			continue;
		if (head.n_descsz != sizeof(uint32_t) && head.n_descsz != sizeof(uint64_t))
			continue;
		*entry = 0;
		memcpy(entry, notes + value, head.n_descsz); /* little-endian, as the host */
		return;
	}
}

static int read_notes(const struct kernel_file *file, const Elf64_Phdr *header,
		      struct kernel *kernel, struct error *err)
{
	uint8_t *notes;
	int r;

	if (kernel->entry != 0 || header->p_filesz == 0)
		return 0;
	if (!range_within(header->p_offset, header->p_filesz, file->size))
		return damaged(file, err, "its notes lie outside of the file");
	if (header->p_filesz > NOTES_SIZE_MAX)
		return damaged(file, err, "its notes are too large");
	notes = malloc(header->p_filesz);
	if (!notes)
		return error_errno(err, ENOMEM, "%s", file->path);
	r = kernel_file_read(file, header->p_offset, notes, header->p_filesz, err);
	if (r == 0)
		find_entry_note(notes, header->p_filesz, header->p_align == 8 ? 8 : 4,
				&kernel->entry);
	free(notes);
	return r;
}

/* Calls @visit for each program header of @type until one call fails. */
static int visit_headers(const struct kernel_file *file, const Elf64_Ehdr *header, uint32_t type,
			 int (*visit)(const struct kernel_file *, const Elf64_Phdr *,
				      struct kernel *, struct error *),
			 struct kernel *kernel, struct error *err)
{
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr program;
		int r = kernel_file_read(file, header->e_phoff + i * sizeof(program), &program,
					 sizeof(program), err);

		if (r == 0 && program.p_type == type)
			r = visit(file, &program, kernel, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool entry_is_loaded(const struct kernel *kernel)
{
	for (size_t i = 0; i < kernel->segment_count; i++) {
		const struct kernel_segment *s = &kernel->segments[i];

		if (kernel->entry >= s->base && kernel->entry - s->base < s->file_size)
			return true;
	}
	return false;
}

int elf_parse(const struct kernel_file *file, struct kernel *kernel, struct error *err)
{
	Elf64_Ehdr header = {0};
	int r;

	memset(kernel, 0, sizeof(*kernel));
	kernel->protocol = BOOT_PVH;
	kernel->start = KERNEL_ADDRESS_LIMIT;
	kernel->initrd_limit = KERNEL_ADDRESS_LIMIT;
	kernel->cmdline_max = CMDLINE_MAX;

	r = read_header(file, &header, err);
	if (r < 0)
		return r;
	/* Notes first: the file may be some program, whose addresses would only confuse. */
	r = visit_headers(file, &header, PT_NOTE, read_notes, kernel, err);
	if (r < 0)
		return r;
	if (kernel->entry == 0)
		return error_say(
			err, ENOEXEC,
			"%s: no PVH entry point (a Linux kernel needs CONFIG_PVH); use the "
			"kernel's bzImage (vmlinuz)",
			file->path);
	r = visit_headers(file, &header, PT_LOAD, add_segment, kernel, err);
	if (r < 0)
		return r;
	if (!entry_is_loaded(kernel))
		return damaged(file, err, "its PVH entry point lies outside of its code");
	return 0;
}
