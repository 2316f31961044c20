/*
 * ACPI tables of a hardware-reduced platform (ACPI 6.4): RSDP, XSDT, FADT, MADT, and the DSDT that
 * iasl compiles from dsdt.asl when ebb is built. Stateless.
 *
 * Contract with the machine's wiring:
 *
 *   reset         the value 0xfe to port PLATFORM_I8042_COMMAND: by FADT's RESET_REG, and by
 *                 boot.c's reset vector, which Linux uses
 *   power off     ACPI_SLEEP_S5_VALUE (SLP_EN, and SLP_TYP = PLATFORM_SLEEP_S5) to the port
 *                 PLATFORM_SLEEP_CONTROL; PLATFORM_SLEEP_STATUS reads 0, writes are ignored
 *   power button  an edge (raise, then lower) on PLATFORM_GED_GSI
 */
#ifndef EBB_ARCH_ACPI_H
#define EBB_ARCH_ACPI_H

#include <stddef.h>

#include "arch/x86_64/platform.h"
#include "arch/x86_64/platform_info.h"

#define ACPI_SLEEP_ENABLE   0x20
#define ACPI_SLEEP_S5_VALUE (ACPI_SLEEP_ENABLE | PLATFORM_SLEEP_S5 << 2)
#define ACPI_RESET_VALUE    0xfe

/*
 * Builds the tables as one blob to be placed at @base (16-byte aligned), RSDP first. 0 with *tables
 * (free() it) of *size bytes, -ENOMEM, or -EINVAL (cpus, @base).
 */
int acpi_build(const struct platform *platform, gpa_t base, void **tables, size_t *size);

#endif
