/*
 * The fixed numbers of the machine: where every device lives and which interrupt it raises.
 *
 * The one table behind the ACPI tables, the device tree and the machine's wiring. Included by the
 * preprocessor for dsdt.asl as well, so it holds nothing but #defines.
 */
#ifndef EBB_ARCH_PLATFORM_H
#define EBB_ARCH_PLATFORM_H

/* Guest RAM below and above the hole for MMIO. */
#define PLATFORM_MMIO_HOLE_START 0xc0000000
#define PLATFORM_MMIO_HOLE_END   0x100000000

/* Virtio MMIO transports: one page each, in slots that may be empty (DeviceID 0). */
#define PLATFORM_VIRTIO_BASE   0xd0000000
#define PLATFORM_VIRTIO_STRIDE 0x1000
#define PLATFORM_VIRTIO_SIZE   0x200
#define PLATFORM_VIRTIO_SLOTS  16

/* The base of each slot, written out: iasl takes no arithmetic in resource descriptors. */
#define PLATFORM_VIRTIO_BASE_0  0xd0000000
#define PLATFORM_VIRTIO_BASE_1  0xd0001000
#define PLATFORM_VIRTIO_BASE_2  0xd0002000
#define PLATFORM_VIRTIO_BASE_3  0xd0003000
#define PLATFORM_VIRTIO_BASE_4  0xd0004000
#define PLATFORM_VIRTIO_BASE_5  0xd0005000
#define PLATFORM_VIRTIO_BASE_6  0xd0006000
#define PLATFORM_VIRTIO_BASE_7  0xd0007000
#define PLATFORM_VIRTIO_BASE_8  0xd0008000
#define PLATFORM_VIRTIO_BASE_9  0xd0009000
#define PLATFORM_VIRTIO_BASE_10 0xd000a000
#define PLATFORM_VIRTIO_BASE_11 0xd000b000
#define PLATFORM_VIRTIO_BASE_12 0xd000c000
#define PLATFORM_VIRTIO_BASE_13 0xd000d000
#define PLATFORM_VIRTIO_BASE_14 0xd000e000
#define PLATFORM_VIRTIO_BASE_15 0xd000f000

/* The GSI of each slot: the IOAPIC pins (24) that the ISA devices leave free. */
#define PLATFORM_VIRTIO_GSI_0  5
#define PLATFORM_VIRTIO_GSI_1  6
#define PLATFORM_VIRTIO_GSI_2  7
#define PLATFORM_VIRTIO_GSI_3  10
#define PLATFORM_VIRTIO_GSI_4  11
#define PLATFORM_VIRTIO_GSI_5  12
#define PLATFORM_VIRTIO_GSI_6  14
#define PLATFORM_VIRTIO_GSI_7  15
#define PLATFORM_VIRTIO_GSI_8  16
#define PLATFORM_VIRTIO_GSI_9  17
#define PLATFORM_VIRTIO_GSI_10 18
#define PLATFORM_VIRTIO_GSI_11 19
#define PLATFORM_VIRTIO_GSI_12 20
#define PLATFORM_VIRTIO_GSI_13 21
#define PLATFORM_VIRTIO_GSI_14 22
#define PLATFORM_VIRTIO_GSI_15 23

/* ISA devices. */
#define PLATFORM_SERIAL_PORT   0x3f8
#define PLATFORM_SERIAL_PORTS  8
#define PLATFORM_SERIAL_GSI    4
#define PLATFORM_I8042_DATA    0x60
#define PLATFORM_I8042_COMMAND 0x64
#define PLATFORM_I8042_GSI     1
#define PLATFORM_RTC_PORT      0x70
#define PLATFORM_RTC_PORTS     2
#define PLATFORM_RTC_GSI       8

/* The guest says here that its kernel panicked: where QEMU has it. */
#define PLATFORM_PVPANIC_PORT 0x505

/* ACPI of a hardware-reduced platform: power button through a generic event device. */
#define PLATFORM_GED_GSI 9
/* One byte of I/O ports each: SLEEP_CONTROL and SLEEP_STATUS (ACPI 6.4, section 4.8.3.7). */
#define PLATFORM_SLEEP_CONTROL 0x600
#define PLATFORM_SLEEP_STATUS  0x601
/* SLP_TYP of S5 as \_S5 reports it. */
#define PLATFORM_SLEEP_S5 5

/* Interrupt controllers (KVM's in-kernel irqchip) and the pages that KVM needs for itself. */
#define PLATFORM_IOAPIC_BASE  0xfec00000
#define PLATFORM_LAPIC_BASE   0xfee00000
#define PLATFORM_IDENTITY_MAP 0xfffbc000
#define PLATFORM_TSS          0xfffbd000

#endif
