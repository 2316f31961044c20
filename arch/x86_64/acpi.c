#include "arch/x86_64/acpi.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/dsdt.h" /* dsdt_aml[], generated from dsdt.asl */
#include "vmm/base/checked.h"

#define PACKED __attribute__((packed))

/* ACPI 6.4, section 5.2.6. */
struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} PACKED;

/* Section 5.2.5.3. */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt_address;
	uint32_t length;
	uint64_t xsdt_address;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} PACKED;

#define RSDP_V1_LENGTH 20

struct acpi_xsdt {
	struct acpi_header header;
	uint64_t tables[2];
} PACKED;

/* Generic address structure, section 5.2.3.2. */
struct acpi_address {
	uint8_t space;
	uint8_t bit_width;
	uint8_t bit_offset;
	uint8_t access_size;
	uint64_t address;
} PACKED;

/* Section 5.2.9. The fixed hardware that a hardware-reduced platform lacks is one blank. */
struct acpi_fadt {
	struct acpi_header header;
	uint32_t firmware_ctrl;
	uint32_t dsdt;
	uint8_t reserved0;
	uint8_t preferred_pm_profile;
	uint8_t fixed_hardware[63];
	uint16_t iapc_boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct acpi_address reset_reg;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor_version;
	uint64_t x_firmware_ctrl;
	uint64_t x_dsdt;
	struct acpi_address fixed_blocks[8];
	struct acpi_address sleep_control;
	struct acpi_address sleep_status;
	uint64_t hypervisor_vendor;
} PACKED;

static_assert(sizeof(struct acpi_header) == 36, "ACPI 6.4, table 5-4");
static_assert(sizeof(struct acpi_rsdp) == 36, "ACPI 6.4, table 5-3");
static_assert(sizeof(struct acpi_fadt) == 276, "ACPI 6.4, table 5-9");
static_assert(offsetof(struct acpi_fadt, iapc_boot_arch) == 109, "ACPI 6.4, table 5-9");
static_assert(offsetof(struct acpi_fadt, sleep_control) == 244, "ACPI 6.4, table 5-9");

#define SPACE_SYSTEM_IO 1
#define ACCESS_BYTE     1

#define BOOT_ARCH_LEGACY_DEVICES (1 << 0)
#define BOOT_ARCH_8042           (1 << 1)
#define BOOT_ARCH_NO_VGA         (1 << 2)

#define FADT_WBINVD           (1u << 0)
#define FADT_NO_FIXED_POWER   (1u << 4) /* the power button is a device in the DSDT */
#define FADT_NO_FIXED_SLEEP   (1u << 5)
#define FADT_RESET_REG_SUP    (1u << 10)
#define FADT_HARDWARE_REDUCED (1u << 20)

/* Section 5.2.12 and below. */
struct madt_head {
	struct acpi_header header;
	uint32_t lapic_address;
	uint32_t flags;
} PACKED;

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} PACKED;

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} PACKED;

struct madt_lapic_nmi {
	uint8_t type, length, processor;
	uint16_t flags;
	uint8_t lint;
} PACKED;

struct madt_lapic {
	uint8_t type, length, processor, apic_id;
	uint32_t flags;
} PACKED;

enum {
	MADT_LAPIC = 0,
	MADT_IOAPIC = 1,
	MADT_OVERRIDE = 2,
	MADT_LAPIC_NMI = 4,
};

#define MADT_PCAT_COMPAT   1
#define MADT_LAPIC_ENABLED 1
#define MADT_ALL_CPUS      0xff

struct madt {
	struct madt_head head;
	struct madt_ioapic ioapic;
	struct madt_override timer;
	struct madt_lapic_nmi nmi;
	struct madt_lapic lapics[PLATFORM_CPUS_MAX];
} PACKED;

/* All tables, in the order in which they lie in guest memory. The DSDT follows. */
struct tables {
	_Alignas(16) struct acpi_rsdp rsdp;
	_Alignas(16) struct acpi_xsdt xsdt;
	_Alignas(16) struct acpi_fadt fadt;
	_Alignas(16) struct madt madt;
	_Alignas(16) uint8_t dsdt[];
};

static uint8_t checksum(const void *table, size_t length)
{
	const uint8_t *bytes = table;
	uint8_t sum = 0;

	for (size_t i = 0; i < length; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return (uint8_t)-sum;
}

/* The last step for a table: its checksum covers everything else. */
static void seal(struct acpi_header *header, const char *signature, uint8_t revision, size_t length)
{
	memcpy(header->signature, signature, sizeof(header->signature));
	header->length = (uint32_t)length;
	header->revision = revision;
	memcpy(header->oem_id, "EBB   ", sizeof(header->oem_id));
	memcpy(header->oem_table_id, "EBBVM   ", sizeof(header->oem_table_id));
	header->oem_revision = 1;
	memcpy(header->creator_id, "EBB ", sizeof(header->creator_id));
	header->creator_revision = 1;
	header->checksum = 0;
	header->checksum = checksum(header, length);
}

static void make_rsdp(struct acpi_rsdp *rsdp, uint64_t xsdt)
{
	memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
	memcpy(rsdp->oem_id, "EBB   ", sizeof(rsdp->oem_id));
	rsdp->revision = 2;
	rsdp->length = sizeof(*rsdp);
	rsdp->xsdt_address = xsdt;
	rsdp->checksum = checksum(rsdp, RSDP_V1_LENGTH);
	rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

static struct acpi_address io_port(uint16_t port)
{
	return (struct acpi_address){.space = SPACE_SYSTEM_IO,
				     .bit_width = 8,
				     .access_size = ACCESS_BYTE,
				     .address = port};
}

static void make_fadt(struct acpi_fadt *fadt, uint64_t dsdt)
{
	fadt->iapc_boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_8042 | BOOT_ARCH_NO_VGA;
	fadt->flags = FADT_WBINVD | FADT_NO_FIXED_POWER | FADT_NO_FIXED_SLEEP | FADT_RESET_REG_SUP |
		      FADT_HARDWARE_REDUCED;
	fadt->reset_reg = io_port(PLATFORM_I8042_COMMAND);
	fadt->reset_value = ACPI_RESET_VALUE;
	fadt->minor_version = 4;
	fadt->x_dsdt = dsdt;
	fadt->sleep_control = io_port(PLATFORM_SLEEP_CONTROL);
	fadt->sleep_status = io_port(PLATFORM_SLEEP_STATUS);
	seal(&fadt->header, "FACP", 6, sizeof(*fadt));
}

static void make_madt(struct madt *madt, unsigned cpus)
{
	madt->head.lapic_address = PLATFORM_LAPIC_BASE;
	madt->head.flags = MADT_PCAT_COMPAT;
	madt->ioapic = (struct madt_ioapic){
		.type = MADT_IOAPIC,
		.length = sizeof(madt->ioapic),
		.address = PLATFORM_IOAPIC_BASE,
	};
	/* The PIT's IRQ 0 arrives at pin 2, as on every PC. */
	madt->timer = (struct madt_override){
		.type = MADT_OVERRIDE, .length = sizeof(madt->timer), .source = 0, .gsi = 2};
	madt->nmi = (struct madt_lapic_nmi){.type = MADT_LAPIC_NMI,
					    .length = sizeof(madt->nmi),
					    .processor = MADT_ALL_CPUS,
					    .lint = 1};
	for (unsigned i = 0; i < cpus; i++) {
		madt->lapics[i] = (struct madt_lapic){
			.type = MADT_LAPIC,
			.length = sizeof(madt->lapics[i]),
			.processor = (uint8_t)i,
			.apic_id = (uint8_t)i,
			.flags = MADT_LAPIC_ENABLED,
		};
	}
	seal(&madt->head.header, "APIC", 5,
	     offsetof(struct madt, lapics) + cpus * sizeof(madt->lapics[0]));
}

int acpi_build(const struct platform *platform, gpa_t base, void **tables, size_t *size)
{
	const size_t total = sizeof(struct tables) + sizeof(dsdt_aml);
	uint64_t end;

	if (platform->cpus == 0 || platform->cpus > PLATFORM_CPUS_MAX || !is_aligned(base, 16) ||
	    !checked_add(base, total, &end))
		return -EINVAL;

	struct tables *all = aligned_alloc(16, align_down(total + 15, 16));
	if (!all)
		return -ENOMEM;
	memset(all, 0, total);

	memcpy(all->dsdt, dsdt_aml, sizeof(dsdt_aml));
	make_fadt(&all->fadt, base + offsetof(struct tables, dsdt));
	make_madt(&all->madt, platform->cpus);
	all->xsdt.tables[0] = base + offsetof(struct tables, fadt);
	all->xsdt.tables[1] = base + offsetof(struct tables, madt);
	seal(&all->xsdt.header, "XSDT", 1, sizeof(all->xsdt));
	make_rsdp(&all->rsdp, base + offsetof(struct tables, xsdt));

	*tables = all;
	*size = total;
	return 0;
}
