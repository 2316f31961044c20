#include "tests/fuzz/kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/boot.h"
#include "arch/x86_64/memory_map.h"

struct file {
	int fd;
	char path[32];
};

static struct file make_file(const void *bytes, size_t size)
{
	struct file file = {.fd = memfd_create("file", MFD_CLOEXEC)};

	if (file.fd < 0 || write(file.fd, bytes, size) != (ssize_t)size)
		abort();
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

static struct guest_memory *make_ram(unsigned long bytes)
{
	struct guest_memory_region regions[MEMORY_MAP_REGIONS_MAX];
	struct guest_memory *memory;
	size_t count;

	if (memory_map_layout(bytes, regions, &count) ||
	    guest_memory_create(regions, count, &memory, NULL))
		abort();
	return memory;
}

static void load(const struct boot_image *image, unsigned long memory_bytes)
{
	struct guest_memory *memory = make_ram(memory_bytes);
	const struct platform platform = {.cpus = 1, .memory = memory, .virtio_slots = 3};
	struct boot_entry entry;
	struct error err;

	if (!boot_image_load(image, &platform, &entry, &err) &&
	    (!guest_memory_contains(memory, entry.entry, 1) ||
	     !guest_memory_contains(memory, entry.parameter, 1) ||
	     !guest_memory_contains(memory, entry.dtb, entry.dtb_size)))
		abort();
	guest_memory_destroy(memory);
}

void fuzz_boot(const void *kernel, size_t kernel_size, const void *initrd, size_t initrd_size,
	       const char *cmdline, unsigned long memory_bytes)
{
	struct file kernel_file = make_file(kernel, kernel_size);
	struct file initrd_file = make_file(initrd, initrd_size);
	struct boot_image *image;
	struct error err;

	if (!boot_image_open(kernel_file.path, initrd ? initrd_file.path : NULL, cmdline, &image,
			     &err)) {
		load(image, memory_bytes);
		boot_image_close(image);
	}
	close(kernel_file.fd);
	close(initrd_file.fd);
}
