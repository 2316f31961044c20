/*
 * The machine as a flattened device tree (devicetree.org specification 0.4), built with libfdt.
 *
 * For guests without ACPI, the bare-metal guest and --dump-dtb. Stateless.
 *
 *   /chosen                    bootargs, stdout-path; linux,initrd-start and -end (64 bits)
 *   /memory@BASE               one per region of RAM
 *   /reserved-memory           the part of RAM below 1 MiB that the guest must leave alone
 *   /cpus/cpu@N                reg = APIC id
 *   /soc/interrupt-controller  the IOAPIC; interrupts = <GSI 0>, 0 meaning a rising edge
 *   /soc/lapic
 *   /soc/virtio_mmio@BASE      "virtio,mmio"; only slots that hold a device
 *   /isa@1,0/NAME@1,PORT       port I/O: reg = <1 PORT COUNT>, as in the ISA binding
 *
 * "ebb,acpi-sleep" is ACPI's SLEEP_CONTROL port (acpi.h), for guests that want to power off and
 * read no ACPI tables. Device names and compatible strings are those of platform_info.c.
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
