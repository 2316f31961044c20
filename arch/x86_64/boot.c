#include "arch/x86_64/boot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/device_tree.h"
#include "arch/x86_64/kernel.h"
#include "vmm/base/checked.h"
#include "vmm/base/io.h"
#include "vmm/base/size.h"

struct boot_image {
	struct kernel_file kernel_file;
	struct kernel_file initrd_file; /* fd -1: none */
	char *kernel_path;
	char *initrd_path;
	char *cmdline;
	struct kernel kernel;
};

int kernel_file_read(const struct kernel_file *file, uint64_t offset, void *buffer, size_t length,
		     struct error *err)
{
	int r = io_pread_full(file->fd, buffer, length, (off_t)offset);

	if (r == -ENODATA)
		return error_say(err, EIO, "%s: has become shorter since ebb opened it",
				 file->path);
	if (r < 0)
		return error_errno(err, -r, "%s: cannot read", file->path);
	return 0;
}

/* @what names the file's role in messages. O_NONBLOCK: a FIFO must not hold ebb up. */
static int open_file(const char *path, const char *what, struct kernel_file *file,
		     struct error *err)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return error_errno(err, errno, "%s %s: cannot open", what, path);
	file->fd = fd;
	file->path = path;
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "%s %s: cannot examine", what, path);
	if (S_ISDIR(st.st_mode))
		return error_say(err, EISDIR, "%s %s: is a directory; give the file itself", what,
				 path);
	if (!S_ISREG(st.st_mode))
		return error_say(err, EINVAL, "%s %s: is not a regular file", what, path);
	if (st.st_size == 0)
		return error_say(err, EINVAL, "%s %s: is empty", what, path);
	file->size = (uint64_t)st.st_size;
	return 0;
}

/* What a file that ebb cannot boot seems to be, with advice; NULL: no idea. */
static const char *recognise_other(const uint8_t head[static 0x40])
{
	if (memcmp(head + 0x38, "ARMd", 4) == 0)
		return "built for 64-bit ARM (aarch64); ebb boots x86-64 kernels";
	if (memcmp(head + 0x38, "RSC\x05", 4) == 0)
		return "built for RISC-V; ebb boots x86-64 kernels";
	if (memcmp(head + 0x24, "\x18\x28\x6f\x01", 4) == 0)
		return "built for 32-bit ARM; ebb boots x86-64 kernels";
	if (memcmp(head, "\x1f\x8b", 2) == 0 ||
	    memcmp(head,
		   "\xfd"
		   "7zXZ",
		   5) == 0 ||
	    memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0)
		return "a compressed file; unpack it, or use the kernel's bzImage (vmlinuz)";
	if (memcmp(head, "070701", 6) == 0)
		return "a cpio archive; an initrd is given with --initrd";
	if (memcmp(head, "!<arch>", 7) == 0)
		return "a package; unpack the kernel from it";
	return NULL;
}

static int parse_kernel(struct boot_image *image, struct error *err)
{
	const struct kernel_file *file = &image->kernel_file;
	uint8_t head[0x206] = {0};
	size_t length = file->size < sizeof(head) ? (size_t)file->size : sizeof(head);
	const char *other;
	int r;

	r = kernel_file_read(file, 0, head, length, err);
	if (r < 0)
		return r;
	if (memcmp(head,
		   "\x7f"
		   "ELF",
		   4) == 0)
		return elf_parse(file, &image->kernel, err);
	if (memcmp(head + 0x202, "HdrS", 4) == 0)
		return bzimage_parse(file, &image->kernel, err);

	other = recognise_other(head);
	if (other)
		return error_say(err, ENOEXEC, "%s: %s", file->path, other);
	if (file->size < sizeof(head))
		return error_say(err, ENOEXEC,
				 "%s: not a kernel, or cut short: only %" PRIu64 " bytes",
				 file->path, file->size);
	return error_say(err, ENOEXEC,
			 "%s: not a kernel that ebb knows; it boots a Linux bzImage (vmlinuz) or "
			 "an x86-64 ELF file with a PVH entry point (vmlinux)",
			 file->path);
}

static int check_cmdline(const struct boot_image *image, struct error *err)
{
	uint64_t max = image->kernel.cmdline_max;
	size_t length = strlen(image->cmdline);

	if (max > BOOT_CMDLINE_ROOM - 1)
		max = BOOT_CMDLINE_ROOM - 1;
	if (length > max)
		return error_say(err, E2BIG,
				 "kernel command line: %zu characters, but %s takes %" PRIu64
				 " at most",
				 length, image->kernel_path, max);
	return 0;
}

static int copy_strings(struct boot_image *image, const char *kernel, const char *initrd,
			const char *cmdline)
{
	image->kernel_path = strdup(kernel);
	image->initrd_path = initrd ? strdup(initrd) : NULL;
	image->cmdline = strdup(cmdline ? cmdline : "");
	if (!image->kernel_path || !image->cmdline || (initrd && !image->initrd_path))
		return -ENOMEM;
	return 0;
}

int boot_image_open(const char *kernel, const char *initrd, const char *cmdline,
		    struct boot_image **out, struct error *err)
{
	struct boot_image *image = calloc(1, sizeof(*image));
	int r;

	if (!image)
		return error_errno(err, ENOMEM, "%s", kernel);
	image->kernel_file.fd = -1;
	image->initrd_file.fd = -1;
	r = copy_strings(image, kernel, initrd, cmdline);
	if (r < 0) {
		error_errno(err, -r, "%s", kernel);
		goto close;
	}
	r = open_file(image->kernel_path, "kernel", &image->kernel_file, err);
	if (r < 0)
		goto close;
	r = parse_kernel(image, err);
	if (r < 0)
		goto close;
	r = check_cmdline(image, err);
	if (r < 0)
		goto close;
	if (initrd) {
		r = open_file(image->initrd_path, "initrd", &image->initrd_file, err);
		if (r < 0)
			goto close;
	}
	*out = image;
	return 0;

close:
	boot_image_close(image);
	return r;
}

void boot_image_close(struct boot_image *image)
{
	if (!image)
		return;
	if (image->kernel_file.fd >= 0)
		close(image->kernel_file.fd);
	if (image->initrd_file.fd >= 0)
		close(image->initrd_file.fd);
	free(image->kernel_path);
	free(image->initrd_path);
	free(image->cmdline);
	free(image);
}

const char *boot_image_cmdline(const struct boot_image *image)
{
	return image->cmdline;
}

/* Straight into the guest view: no copy is made on the way. */
static int load_range(const struct kernel_file *file, uint64_t offset, uint64_t length,
		      const struct guest_memory *memory, gpa_t gpa, struct error *err)
{
	void *host;
	int r;

	if (length == 0)
		return 0;
	r = guest_memory_slice(memory, gpa, length, &host);
	if (r < 0)
		return error_errno(err, -r, "%s: guest memory at 0x%" PRIx64, file->path, gpa);
	return kernel_file_read(file, offset, host, length, err);
}

/* The RAM from 0 up to the hole: all that a starting kernel can reach. */
static uint64_t low_memory_size(const struct guest_memory *memory)
{
	const struct guest_memory_region *region = guest_memory_region(memory, 0);

	assert(region->base == 0);
	return region->size;
}

static uint64_t mib_rounded_up(uint64_t bytes)
{
	return bytes / MIB + (bytes % MIB != 0);
}

static int load_kernel(const struct boot_image *image, const struct guest_memory *memory,
		       struct error *err)
{
	const struct kernel *kernel = &image->kernel;
	uint64_t low = low_memory_size(memory);

	if (kernel->end > low)
		return error_say(
			err, E2BIG,
			"%s: needs %" PRIu64 " MiB of RAM to start, but the guest has %" PRIu64
			" MiB below 4 GiB; give it more with --memory",
			image->kernel_path, mib_rounded_up(kernel->end), mib_rounded_up(low));
	for (size_t i = 0; i < kernel->segment_count; i++) {
		const struct kernel_segment *s = &kernel->segments[i];
		int r = load_range(&image->kernel_file, s->file_offset, s->file_size, memory,
				   s->base, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The highest page-aligned place for @size bytes that ends at @limit or below and starts at @floor
 * or above. */
static bool place_in(uint64_t size, gpa_t floor, gpa_t limit, gpa_t *start)
{
	if (limit < floor || size > limit - floor)
		return false;
	*start = align_down(limit - size, GUEST_PAGE_SIZE);
	return *start >= floor;
}

/* As high as the kernel allows; in a small guest perhaps below the kernel. */
static int load_initrd(const struct boot_image *image, struct platform *platform, struct error *err)
{
	const struct kernel *kernel = &image->kernel;
	const struct kernel_file *file = &image->initrd_file;
	gpa_t limit = low_memory_size(platform->memory);
	gpa_t below = kernel->start;

	platform->initrd_start = 0;
	platform->initrd_size = 0;
	if (file->fd < 0)
		return 0;
	if (limit > kernel->initrd_limit)
		limit = kernel->initrd_limit;
	if (below > limit)
		below = limit;
	if (!place_in(file->size, kernel->end, limit, &platform->initrd_start) &&
	    !place_in(file->size, BOOT_HIGH, below, &platform->initrd_start))
		return error_say(err, E2BIG,
				 "initrd %s: %" PRIu64
				 " MiB do not fit into guest RAM beside the kernel; give the guest "
				 "more with --memory",
				 image->initrd_path, mib_rounded_up(file->size));
	platform->initrd_size = file->size;
	return load_range(file, 0, file->size, platform->memory, platform->initrd_start, err);
}

/* Selectors and descriptors that match the registers of cpu_initial_state(). */
static int write_gdt(const struct guest_memory *memory, enum boot_protocol protocol)
{
	const uint64_t code32 = 0x00cf9b000000ffff;
	const uint64_t code64 = 0x00af9b000000ffff;
	const uint64_t data = 0x00cf93000000ffff;
	uint64_t gdt[BOOT_GDT_ENTRIES] = {0};

	gdt[BOOT_CODE_SELECTOR / 8] = protocol == BOOT_LINUX64 ? code64 : code32;
	gdt[BOOT_DATA_SELECTOR / 8] = data;
	return guest_memory_write(memory, BOOT_GDT, gdt, sizeof(gdt));
}

#define PTE_PRESENT     1ull
#define PTE_WRITABLE    2ull
#define PTE_LARGE       0x80ull
#define TABLE_ENTRIES   512
#define LARGE_PAGE_SIZE (2 * MIB)

/* Maps the first 4 GiB to themselves. */
static int write_page_tables(const struct guest_memory *memory)
{
	const gpa_t pdpt = BOOT_PAGE_TABLES + GUEST_PAGE_SIZE;
	const gpa_t directories = pdpt + GUEST_PAGE_SIZE;
	uint64_t table[TABLE_ENTRIES] = {pdpt | PTE_PRESENT | PTE_WRITABLE};
	int r = guest_memory_write(memory, BOOT_PAGE_TABLES, table, sizeof(table));

	for (unsigned i = 0; i < BOOT_PAGE_DIRS; i++)
		table[i] = (directories + i * GUEST_PAGE_SIZE) | PTE_PRESENT | PTE_WRITABLE;
	if (r == 0)
		r = guest_memory_write(memory, pdpt, table, sizeof(table));

	for (uint64_t dir = 0; r == 0 && dir < BOOT_PAGE_DIRS; dir++) {
		for (uint64_t i = 0; i < TABLE_ENTRIES; i++)
			table[i] = (dir * TABLE_ENTRIES + i) * LARGE_PAGE_SIZE | PTE_PRESENT |
				   PTE_WRITABLE | PTE_LARGE;
		r = guest_memory_write(memory, directories + dir * GUEST_PAGE_SIZE, table,
				       sizeof(table));
	}
	return r;
}

/*
 * Linux on a hardware-reduced platform restarts through EFI or else the BIOS, not through FADT's
 * reset register: it jumps to F000:FFF0 in real mode. What it finds there asks for a reset.
 */
static int write_reset_vector(const struct guest_memory *memory)
{
	static const uint8_t code[] = {
		0xb0, ACPI_RESET_VALUE,       /* mov al, 0xfe */
		0xe6, PLATFORM_I8042_COMMAND, /* out 0x64, al */
		0xf4,                         /* hlt */
		0xeb, 0xfd,                   /* jmp to the hlt */
	};

	return guest_memory_write(memory, BOOT_RESET_VECTOR, code, sizeof(code));
}

static int write_acpi(const struct platform *platform)
{
	void *tables;
	size_t size;
	int r = acpi_build(platform, BOOT_ACPI, &tables, &size);

	if (r < 0)
		return r;
	assert(size <= BOOT_ACPI_END - BOOT_ACPI);
	r = guest_memory_write(platform->memory, BOOT_ACPI, tables, size);
	free(tables);
	return r;
}

static int write_device_tree(struct boot_contents *contents)
{
	void *blob;
	size_t size;
	int r = device_tree_build(contents->platform, &blob, &size);

	if (r < 0)
		return r;
	assert(size <= BOOT_DTB_END - BOOT_DTB_BLOB);
	r = guest_memory_write(contents->platform->memory, BOOT_DTB_BLOB, blob, size);
	contents->dtb = BOOT_DTB_BLOB;
	contents->dtb_size = size;
	free(blob);
	return r;
}

/* Everything that is not from a file. */
static int write_tables(const struct kernel *kernel, struct boot_contents *contents)
{
	const struct platform *platform = contents->platform;
	int r;

	contents->cmdline = BOOT_CMDLINE;
	contents->rsdp = BOOT_ACPI;
	r = guest_memory_write(platform->memory, BOOT_CMDLINE, platform->cmdline,
			       strlen(platform->cmdline) + 1);
	if (r == 0)
		r = write_reset_vector(platform->memory);
	if (r == 0)
		r = write_acpi(platform);
	if (r == 0)
		r = write_device_tree(contents);
	if (r == 0)
		r = write_gdt(platform->memory, kernel->protocol);
	if (r < 0)
		return r;
	if (kernel->protocol == BOOT_PVH)
		return pvh_write(contents);
	r = write_page_tables(platform->memory);
	return r == 0 ? linux_params_write(kernel, contents) : r;
}

int boot_image_load(const struct boot_image *image, const struct platform *platform,
		    struct boot_entry *entry, struct error *err)
{
	const struct kernel *kernel = &image->kernel;
	struct platform guest = *platform;
	struct boot_contents contents = {.platform = &guest};
	int r;

	guest.cmdline = image->cmdline;
	r = load_kernel(image, guest.memory, err);
	if (r < 0)
		return r;
	r = load_initrd(image, &guest, err);
	if (r < 0)
		return r;
	r = write_tables(kernel, &contents);
	if (r < 0)
		return error_errno(err, -r, "%s: cannot write the boot parameters",
				   image->kernel_path);

	*entry = (struct boot_entry){
		.protocol = kernel->protocol,
		.entry = kernel->entry,
		.parameter = kernel->protocol == BOOT_PVH ? BOOT_START_INFO : BOOT_PARAMS,
		.dtb = contents.dtb,
		.dtb_size = contents.dtb_size,
	};
	return 0;
}
