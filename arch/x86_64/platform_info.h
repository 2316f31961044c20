/*
 * The machine as data: what ACPI tables, device tree and boot parameters are generated from.
 *
 * platform.h holds the numbers; here is the one table of devices built from them, and the parts
 * that vary from guest to guest. Plain data without locks; the strings and the memory belong to
 * whoever filled the struct in.
 */
#ifndef EBB_ARCH_PLATFORM_INFO_H
#define EBB_ARCH_PLATFORM_INFO_H

#include <stddef.h>
#include <stdint.h>

#include "memory/guest_memory.h"

#define PLATFORM_CPUS_MAX 64

/* One guest. */
struct platform {
	unsigned cpus; /* 1 to PLATFORM_CPUS_MAX; the APIC id of vCPU n is n */
	const struct guest_memory *memory;
	const char *cmdline;   /* NULL: empty */
	uint32_t virtio_slots; /* bit n: virtio-mmio slot n holds a device */
	/* Where the initrd lies; boot_image_load() fills these in its own copy. Size 0: none. */
	gpa_t initrd_start;
	uint64_t initrd_size;
};

enum platform_bus {
	PLATFORM_BUS_MMIO, /* base is a guest-physical address */
	PLATFORM_BUS_PIO,  /* base is an I/O port */
};

/* A device other than virtio-mmio. */
struct platform_device {
	const char *name;       /* of the device tree's node, without the unit address */
	const char *compatible; /* in the device tree */
	enum platform_bus bus;
	uint64_t base;
	uint64_t size;
	int gsi; /* -1: raises no interrupt */
};

/* The fixed devices. The table is constant. */
const struct platform_device *platform_devices(size_t *count);

/* The device called @name, or NULL. */
const struct platform_device *platform_device(const char *name);

/* Base address and GSI of a virtio-mmio slot; @slot < PLATFORM_VIRTIO_SLOTS. */
uint64_t platform_virtio_base(unsigned slot);
uint32_t platform_virtio_gsi(unsigned slot);

#endif
