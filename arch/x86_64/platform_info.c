#include "arch/x86_64/platform_info.h"

#include <assert.h>
#include <string.h>

#include "arch/x86_64/platform.h"
#include "vmm/base/checked.h"

static const struct platform_device devices[] = {
	{
		.name = "interrupt-controller",
		.compatible = "intel,ce4100-ioapic",
		.bus = PLATFORM_BUS_MMIO,
		.base = PLATFORM_IOAPIC_BASE,
		.size = 0x1000,
		.gsi = -1,
	},
	{
		.name = "lapic",
		.compatible = "intel,ce4100-lapic",
		.bus = PLATFORM_BUS_MMIO,
		.base = PLATFORM_LAPIC_BASE,
		.size = 0x1000,
		.gsi = -1,
	},
	{
		.name = "serial",
		.compatible = "ns16550a",
		.bus = PLATFORM_BUS_PIO,
		.base = PLATFORM_SERIAL_PORT,
		.size = PLATFORM_SERIAL_PORTS,
		.gsi = PLATFORM_SERIAL_GSI,
	},
	{
		/* The two ports at either end; what lies between is not the keyboard's. */
		.name = "i8042",
		.compatible = "pnpPNP,303",
		.bus = PLATFORM_BUS_PIO,
		.base = PLATFORM_I8042_DATA,
		.size = PLATFORM_I8042_COMMAND - PLATFORM_I8042_DATA + 1,
		.gsi = PLATFORM_I8042_GSI,
	},
	{
		.name = "rtc",
		.compatible = "motorola,mc146818",
		.bus = PLATFORM_BUS_PIO,
		.base = PLATFORM_RTC_PORT,
		.size = PLATFORM_RTC_PORTS,
		.gsi = PLATFORM_RTC_GSI,
	},
	{
		/* SLEEP_CONTROL and SLEEP_STATUS, for guests that read no ACPI tables. */
		.name = "sleep",
		.compatible = "ebb,acpi-sleep",
		.bus = PLATFORM_BUS_PIO,
		.base = PLATFORM_SLEEP_CONTROL,
		.size = PLATFORM_SLEEP_STATUS - PLATFORM_SLEEP_CONTROL + 1,
		.gsi = -1,
	},
};

struct virtio_slot {
	uint64_t base;
	uint32_t gsi;
};

#define VIRTIO_SLOT(n)                                                                             \
	{                                                                                          \
		.base = PLATFORM_VIRTIO_BASE_##n, .gsi = PLATFORM_VIRTIO_GSI_##n                   \
	}

static const struct virtio_slot virtio_slots[PLATFORM_VIRTIO_SLOTS] = {
	VIRTIO_SLOT(0),  VIRTIO_SLOT(1),  VIRTIO_SLOT(2),  VIRTIO_SLOT(3),
	VIRTIO_SLOT(4),  VIRTIO_SLOT(5),  VIRTIO_SLOT(6),  VIRTIO_SLOT(7),
	VIRTIO_SLOT(8),  VIRTIO_SLOT(9),  VIRTIO_SLOT(10), VIRTIO_SLOT(11),
	VIRTIO_SLOT(12), VIRTIO_SLOT(13), VIRTIO_SLOT(14), VIRTIO_SLOT(15),
};

const struct platform_device *platform_devices(size_t *count)
{
	*count = ARRAY_SIZE(devices);
	return devices;
}

const struct platform_device *platform_device(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		if (strcmp(devices[i].name, name) == 0)
			return &devices[i];
	}
	return NULL;
}

uint64_t platform_virtio_base(unsigned slot)
{
	assert(slot < PLATFORM_VIRTIO_SLOTS);
	return virtio_slots[slot].base;
}

uint32_t platform_virtio_gsi(unsigned slot)
{
	assert(slot < PLATFORM_VIRTIO_SLOTS);
	return virtio_slots[slot].gsi;
}
