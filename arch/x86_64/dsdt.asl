/*
 * The DSDT: devices as ACPI guests find them. The C preprocessor puts in the numbers of platform.h,
 * then iasl compiles it. A virtio slot without a device reads DeviceID 0, which drivers skip.
 */
#include "arch/x86_64/platform.h"

#define VIRTIO_SLOT(name, slot) \
	Device (name) { \
		Name (_HID, "LNRO0005") \
		Name (_UID, slot) \
		Name (_CCA, One) \
		Name (_CRS, ResourceTemplate () { \
			Memory32Fixed (ReadWrite, PLATFORM_VIRTIO_BASE_##slot, \
				       PLATFORM_VIRTIO_SIZE) \
			Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { \
				PLATFORM_VIRTIO_GSI_##slot \
			} \
		}) \
	}

DefinitionBlock ("", "DSDT", 2, "EBB", "EBBDSDT", 1)
{
	Name (\_S5, Package () { PLATFORM_SLEEP_S5, PLATFORM_SLEEP_S5, Zero, Zero })

	Scope (\_SB)
	{
		VIRTIO_SLOT (VR00, 0)
		VIRTIO_SLOT (VR01, 1)
		VIRTIO_SLOT (VR02, 2)
		VIRTIO_SLOT (VR03, 3)
		VIRTIO_SLOT (VR04, 4)
		VIRTIO_SLOT (VR05, 5)
		VIRTIO_SLOT (VR06, 6)
		VIRTIO_SLOT (VR07, 7)
		VIRTIO_SLOT (VR08, 8)
		VIRTIO_SLOT (VR09, 9)
		VIRTIO_SLOT (VR10, 10)
		VIRTIO_SLOT (VR11, 11)
		VIRTIO_SLOT (VR12, 12)
		VIRTIO_SLOT (VR13, 13)
		VIRTIO_SLOT (VR14, 14)
		VIRTIO_SLOT (VR15, 15)

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, PLATFORM_SERIAL_PORT, PLATFORM_SERIAL_PORT, 1,
				    PLATFORM_SERIAL_PORTS)
				IRQNoFlags () { PLATFORM_SERIAL_GSI }
			})
		}

		Device (KBD0)
		{
			Name (_HID, EisaId ("PNP0303"))
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, PLATFORM_I8042_DATA, PLATFORM_I8042_DATA, 1, 1)
				IO (Decode16, PLATFORM_I8042_COMMAND, PLATFORM_I8042_COMMAND, 1, 1)
				IRQNoFlags () { PLATFORM_I8042_GSI }
			})
		}

		Device (RTC0)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, PLATFORM_RTC_PORT, PLATFORM_RTC_PORT, 1,
				    PLATFORM_RTC_PORTS)
				IRQNoFlags () { PLATFORM_RTC_GSI }
			})
		}

		Device (PEVT)
		{
			Name (_HID, "QEMU0001")
			Name (_STA, 0x0f)
			Name (_CRS, ResourceTemplate () {
				IO (Decode16, PLATFORM_PVPANIC_PORT, PLATFORM_PVPANIC_PORT, 1, 1)
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
		}

		Device (GED0)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, Zero)
			Name (_CRS, ResourceTemplate () {
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) {
					PLATFORM_GED_GSI
				}
			})
			Method (_EVT, 1, Serialized)
			{
				If (Arg0 == PLATFORM_GED_GSI)
				{
					Notify (PWRB, 0x80)
				}
			}
		}
	}
}
