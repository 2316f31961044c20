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

static const uint32_t virtio_gsis[PLATFORM_VIRTIO_SLOTS] = {
	PLATFORM_VIRTIO_GSI_0,  PLATFORM_VIRTIO_GSI_1,  PLATFORM_VIRTIO_GSI_2,
	PLATFORM_VIRTIO_GSI_3,  PLATFORM_VIRTIO_GSI_4,  PLATFORM_VIRTIO_GSI_5,
	PLATFORM_VIRTIO_GSI_6,  PLATFORM_VIRTIO_GSI_7,  PLATFORM_VIRTIO_GSI_8,
	PLATFORM_VIRTIO_GSI_9,  PLATFORM_VIRTIO_GSI_10, PLATFORM_VIRTIO_GSI_11,
	PLATFORM_VIRTIO_GSI_12, PLATFORM_VIRTIO_GSI_13, PLATFORM_VIRTIO_GSI_14,
	PLATFORM_VIRTIO_GSI_15,
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
	return PLATFORM_VIRTIO_BASE + (uint64_t)slot * PLATFORM_VIRTIO_STRIDE;
}

uint32_t platform_virtio_gsi(unsigned slot)
{
	assert(slot < PLATFORM_VIRTIO_SLOTS);
	return virtio_gsis[slot];
}
