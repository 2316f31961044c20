/* Linux/x86 boot protocol: Documentation/arch/x86/boot.rst in the Linux sources. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/kernel.h"
#include "vmm/base/checked.h"

/* Offsets in the file. */
#define SETUP_HEADER     0x1f1
#define SETUP_JUMP       0x200 /* its second byte is the rest of the header's length */
#define SETUP_HEADER_MAX 0x290

#define SECTOR                512
#define SETUP_SECTORS_DEFAULT 4
#define PARAGRAPH             16
#define ENTRY_64              0x200 /* from the start of the protected-mode code */
#define PROTOCOL_MIN          0x020c
#define MAGIC_HDRS            0x53726448
#define BOOT_FLAG             0xaa55

/* The header's fields up to the length that the file itself states. */
static int read_header(const struct kernel_file *file, struct setup_header *setup,
		       struct error *err)
{
	uint8_t raw[SETUP_HEADER_MAX] = {0};
	size_t length;
	int r;

	if (file->size < SETUP_HEADER_MAX)
		return error_say(err, ENOEXEC,
				 "%s: truncated: only %" PRIu64 " bytes; get the kernel again",
				 file->path, file->size);
	r = kernel_file_read(file, 0, raw, sizeof(raw), err);
	if (r < 0)
		return r;

	length = (size_t)raw[SETUP_JUMP + 1] + SETUP_JUMP + 2 - SETUP_HEADER;
	if (length > sizeof(*setup))
		length = sizeof(*setup);
	memset(setup, 0, sizeof(*setup));
	memcpy(setup, raw + SETUP_HEADER, length);
	return 0;
}

static int check_protocol(const struct kernel_file *file, const struct setup_header *setup,
			  struct error *err)
{
	if (setup->boot_flag != BOOT_FLAG || setup->header != MAGIC_HDRS)
		return error_say(err, ENOEXEC, "%s: not a Linux kernel (no \"HdrS\" header)",
				 file->path);
	if (setup->version < PROTOCOL_MIN)
		return error_say(err, ENOEXEC,
				 "%s: boot protocol %u.%02u is too old; ebb needs 2.12, that is "
				 "Linux 3.8 or later",
				 file->path, setup->version >> 8, setup->version & 0xff);
	if (!(setup->loadflags & LOADED_HIGH))
		return error_say(err, ENOEXEC, "%s: a zImage; ebb boots a bzImage", file->path);
	if (!(setup->xloadflags & XLF_KERNEL_64))
		return error_say(err, ENOEXEC,
				 "%s: a 32-bit x86 kernel; ebb boots 64-bit kernels (x86-64)",
				 file->path);
	return 0;
}

/* The protected-mode code in the file. */
static int find_code(const struct kernel_file *file, const struct setup_header *setup,
		     struct kernel_segment *code, struct error *err)
{
	uint64_t sectors = setup->setup_sects != 0 ? setup->setup_sects : SETUP_SECTORS_DEFAULT;
	uint64_t offset = (sectors + 1) * SECTOR;
	uint64_t size = (uint64_t)setup->syssize * PARAGRAPH;
	/* syssize is rounded up: the last paragraph may be short by 15 bytes. */
	uint64_t least = size < PARAGRAPH ? 0 : size - (PARAGRAPH - 1);

	if (!range_within(offset, least, file->size))
		return error_say(err, ENOEXEC,
				 "%s: truncated: %" PRIu64 " bytes of %" PRIu64
				 "; get the kernel again",
				 file->path, file->size, offset + size);
	if (size <= ENTRY_64)
		return error_say(err, ENOEXEC, "%s: damaged: its header says that it has no code",
				 file->path);
	if (size > file->size - offset)
		size = file->size - offset;
	code->file_offset = offset;
	code->file_size = size;
	return 0;
}

int bzimage_parse(const struct kernel_file *file, struct kernel *kernel, struct error *err)
{
	struct setup_header *setup = &kernel->setup;
	struct kernel_segment *code = &kernel->segments[0];
	int r;

	memset(kernel, 0, sizeof(*kernel));
	r = read_header(file, setup, err);
	if (r < 0)
		return r;
	r = check_protocol(file, setup, err);
	if (r < 0)
		return r;
	r = find_code(file, setup, code, err);
	if (r < 0)
		return r;

	/*
	 * A relocatable kernel could be copied elsewhere, but would still unpack itself at its
	 * preferred address or above: nothing would be won.
	 */
	code->base = setup->pref_address;
	code->memory_size = setup->init_size > code->file_size ? setup->init_size : code->file_size;
	if (code->base < BOOT_HIGH || !is_aligned(code->base, GUEST_PAGE_SIZE) ||
	    !range_within(code->base, code->memory_size, KERNEL_ADDRESS_LIMIT))
		return error_say(err, ENOEXEC,
				 "%s: damaged: its header asks for memory at 0x%" PRIx64,
				 file->path, code->base);

	kernel->protocol = BOOT_LINUX64;
	kernel->segment_count = 1;
	kernel->start = code->base;
	kernel->end = code->base + code->memory_size;
	kernel->entry = code->base + ENTRY_64;
	kernel->initrd_limit = (uint64_t)setup->initrd_addr_max + 1;
	kernel->cmdline_max = setup->cmdline_size;
	return 0;
}
