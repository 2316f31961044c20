/* ACPI tables: checksums and pointers here, their meaning by iasl's disassembler. */
#include <errno.h>
#include <stdlib.h>

#include "arch_image.h"

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/platform.h"

#define BASE 0xe0000

static uint8_t *tables;
static size_t size;

static int build(unsigned cpus)
{
	struct platform platform = {.cpus = cpus};
	void *built = NULL;
	int r = acpi_build(&platform, BASE, &built, &size);

	free(tables);
	tables = built;
	return r;
}

static int setup(void **state)
{
	(void)state;
	return build(3);
}

static int teardown(void **state)
{
	(void)state;
	free(tables);
	tables = NULL;
	return 0;
}

static uint64_t field(const uint8_t *table, size_t offset, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, table + offset, bytes);
	return value;
}

/* The table at a guest address. */
static const uint8_t *at(uint64_t gpa)
{
	assert_true(gpa >= BASE && gpa - BASE + 36 <= size);
	assert_true(gpa - BASE + field(tables + (gpa - BASE), 4, 4) <= size);
	return tables + (gpa - BASE);
}

static uint8_t sum(const uint8_t *bytes, size_t length)
{
	uint8_t result = 0;

	for (size_t i = 0; i < length; i++)
		result = (uint8_t)(result + bytes[i]);
	return result;
}

/* The table with @signature, through RSDP and XSDT, or through the FADT. */
static const uint8_t *find(const char *signature)
{
	const uint8_t *xsdt = at(field(tables, 24, 8));

	if (memcmp(signature, "XSDT", 4) == 0)
		return xsdt;
	if (memcmp(signature, "DSDT", 4) == 0)
		return at(field(find("FACP"), 140, 8));
	for (size_t i = 36; i < field(xsdt, 4, 4); i += 8) {
		const uint8_t *table = at(field(xsdt, i, 8));

		if (memcmp(table, signature, 4) == 0)
			return table;
	}
	fail_msg("no %s", signature);
	return NULL;
}

static void seals_every_table_with_its_checksum(void **state)
{
	static const char *const names[] = {"XSDT", "FACP", "APIC", "DSDT"};

	(void)state;
	assert_memory_equal(tables, "RSD PTR ", 8);
	assert_int_equal(sum(tables, 20), 0);
	assert_int_equal(sum(tables, 36), 0);
	for (size_t i = 0; i < 4; i++) {
		const uint8_t *table = find(names[i]);

		assert_memory_equal(table, names[i], 4);
		assert_int_equal(sum(table, field(table, 4, 4)), 0);
	}
}

static void ends_with_the_last_byte_of_the_dsdt(void **state)
{
	const uint8_t *dsdt = find("DSDT");

	(void)state;
	assert_ptr_equal(dsdt + field(dsdt, 4, 4), tables + size);
}

static void lists_every_cpu(void **state)
{
	(void)state;
	for (unsigned cpus = 1; cpus <= 64; cpus += 21) {
		unsigned found = 0;

		assert_int_equal(build(cpus), 0);
		const uint8_t *madt = find("APIC");
		for (size_t i = 44; i < field(madt, 4, 4); i += madt[i + 1]) {
			assert_true(madt[i + 1] != 0);
			if (madt[i] != 0)
				continue;
			assert_int_equal(madt[i + 3], found);
			assert_int_equal(field(madt, i + 4, 4), 1);
			found++;
		}
		assert_int_equal(found, cpus);
	}
}

static void refuses_impossible_cpu_counts(void **state)
{
	(void)state;
	assert_int_equal(build(0), -EINVAL);
	assert_int_equal(build(65), -EINVAL);
}

static void names_the_ports_of_reset_and_power_off(void **state)
{
	const uint8_t *fadt = find("FACP");

	(void)state;
	assert_int_equal(field(fadt, 112, 4) & 1 << 20, 1 << 20); /* hardware-reduced */
	assert_int_equal(field(fadt, 112, 4) & 1 << 10, 1 << 10); /* the reset register is there */
	assert_int_equal(fadt[116], 1);                           /* I/O space */
	assert_int_equal(field(fadt, 120, 8), PLATFORM_I8042_COMMAND);
	assert_int_equal(fadt[128], 0xfe);
	assert_int_equal(field(fadt, 248, 8), PLATFORM_SLEEP_CONTROL);
	assert_int_equal(field(fadt, 260, 8), PLATFORM_SLEEP_STATUS);
}

/* Runs `iasl -d` on one table and returns its source. */
static char *disassemble(const char *signature)
{
	char directory[] = "/tmp/ebb-acpi-XXXXXX";
	const uint8_t *table = find(signature);
	static char text[256 * 1024];
	char command[512], path[128];

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/table.dat", directory);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(table, 1, field(table, 4, 4), file), field(table, 4, 4));
	assert_int_equal(fclose(file), 0);
	snprintf(command, sizeof(command), "cd %s && %s -d table.dat >log 2>&1", directory, IASL);
	assert_int_equal(system(command), 0);

	snprintf(path, sizeof(path), "%s/table.dsl", directory);
	file = fopen(path, "r");
	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	assert_int_equal(system(command), 0);
	assert_null(strstr(text, "Incorrect checksum"));
	return text;
}

/* Fails unless the texts of @words follow one another in @text. Returns what follows the last. */
static char *expect_in_order(char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		text = strstr(text, words[i]);
		if (!text)
			fail_msg("\"%s\" is missing", words[i]);
		text += strlen(words[i]);
	}
	return text;
}

static void iasl_finds_the_virtio_slots_where_platform_h_puts_them(void **state)
{
	char *text = disassemble("DSDT");

	(void)state;
	for (unsigned slot = 0; slot < PLATFORM_VIRTIO_SLOTS; slot++) {
		char base[32], length[32], gsi[32];
		const char *words[] = {"LNRO0005",   base,        length, "Edge",
				       "ActiveHigh", "Exclusive", gsi};

		snprintf(base, sizeof(base), "0x%08llX,",
			 (unsigned long long)platform_virtio_base(slot));
		snprintf(length, sizeof(length), "0x%08X,", PLATFORM_VIRTIO_SIZE);
		snprintf(gsi, sizeof(gsi), "0x%08X,", platform_virtio_gsi(slot));
		text = expect_in_order(text, words, sizeof(words) / sizeof(words[0]));
	}
	assert_null(strstr(text, "LNRO0005"));
}

static void iasl_finds_the_other_devices(void **state)
{
	static const char *const words[] = {
		"_S5",     "0x05",   "PNP0501", "0x03F8",   "PNP0303",    "0x0060", "0x0064",
		"PNP0B00", "0x0070", "PNP0C0C", "ACPI0013", "0x00000009", "_EVT",   "Notify"};

	(void)state;
	expect_in_order(disassemble("DSDT"), words, sizeof(words) / sizeof(words[0]));
}

static void iasl_accepts_the_fadt(void **state)
{
	static const char *const words[] = {"Hardware Reduced (V5) : 1", "Sleep Control Register",
					    "0000000000000600", "Sleep Status Register",
					    "0000000000000601"};

	(void)state;
	expect_in_order(disassemble("FACP"), words, sizeof(words) / sizeof(words[0]));
}

static void iasl_accepts_the_madt(void **state)
{
	static const char *const words[] = {"Local Apic Address : FEE00000",
					    "I/O APIC",
					    "Address : FEC00000",
					    "Interrupt Source Override",
					    "Source : 00",
					    "Interrupt : 00000002",
					    "Local APIC NMI",
					    "Processor Local APIC"};

	(void)state;
	expect_in_order(disassemble("APIC"), words, sizeof(words) / sizeof(words[0]));
}

static void iasl_accepts_the_xsdt(void **state)
{
	static const char *const words[] = {"ACPI Table Address   0", "ACPI Table Address   1"};

	(void)state;
	expect_in_order(disassemble("XSDT"), words, sizeof(words) / sizeof(words[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(seals_every_table_with_its_checksum, setup,
						teardown),
		cmocka_unit_test_setup_teardown(ends_with_the_last_byte_of_the_dsdt, setup,
						teardown),
		cmocka_unit_test_setup_teardown(lists_every_cpu, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_impossible_cpu_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(names_the_ports_of_reset_and_power_off, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			iasl_finds_the_virtio_slots_where_platform_h_puts_them, setup, teardown),
		cmocka_unit_test_setup_teardown(iasl_finds_the_other_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(iasl_accepts_the_fadt, setup, teardown),
		cmocka_unit_test_setup_teardown(iasl_accepts_the_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(iasl_accepts_the_xsdt, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
