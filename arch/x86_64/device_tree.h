/*
 * The machine as a flattened device tree (devicetree.org specification 0.4), built with libfdt.
 *
 * For guests without ACPI, the bare-metal guest and --dump-dtb. Stateless.
 *
 *   /memory@BASE            one per region of RAM, less nothing: reserved parts are in
 * /reserved-memory /cpus/cpu@N             reg = APIC id /chosen                 bootargs,
 * stdout-path, linux,initrd-start, linux,initrd-end /soc/interrupt-controller@…  IOAPIC: two cells,
 * GSI and sense (0: rising edge, as its binding says) /soc/virtio_mmio@BASE   "virtio,mmio"; only
 * slots that hold a device /isa/NAME@1,PORT        port I/O: an ISA bus (two address cells: 1 = I/O
 * space, port)
 */
#ifndef EBB_ARCH_DEVICE_TREE_H
#define EBB_ARCH_DEVICE_TREE_H

#include <stddef.h>

#include "arch/x86_64/platform_info.h"

/* Room that boot.c keeps for the tree in guest RAM. */
#define DEVICE_TREE_SIZE_MAX 0x18000

/* 0 with *blob (free() it) of *size bytes; -ENOMEM; -EINVAL if it does not fit or cpus is wrong. */
int device_tree_build(const struct platform *platform, void **blob, size_t *size);

#endif
