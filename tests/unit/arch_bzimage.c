/* A bzImage: what is refused, and what a guest finds in its memory. */
#include <errno.h>

#include "arch_image.h"

#include "arch/x86_64/boot_layout.h"
#include "vmm/base/size.h"

#define RAM (128 * MIB)

static struct bzimage bz;

static int setup(void **state)
{
	(void)state;
	bzimage_make(&bz);
	return 0;
}

static void refuses_files_cut_at_any_length(void **state)
{
	(void)state;
	for (size_t size = 1; size < sizeof(bz) - 15; size += size < 0x300 ? 1 : 61) {
		struct image_file file = image_file_make(&bz, size);
		struct boot_image *image = NULL;
		struct error err = {.text = ""};

		assert_int_equal(boot_image_open(file.path, NULL, NULL, &image, &err), -ENOEXEC);
		assert_true(strstr(err.text, "truncated") || strstr(err.text, "cut short"));
		close(file.fd);
	}
}

static void refuses_a_missing_magic(void **state)
{
	(void)state;
	bz.setup.header ^= 1;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "not a kernel");
	bzimage_make(&bz);
	bz.setup.boot_flag = 0;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "not a Linux kernel");
}

static void refuses_an_old_protocol(void **state)
{
	(void)state;
	bz.setup.version = 0x020b;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "2.11 is too old");
}

static void refuses_a_zimage(void **state)
{
	(void)state;
	bz.setup.loadflags = 0;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "zImage");
}

static void refuses_a_32_bit_kernel(void **state)
{
	(void)state;
	bz.setup.xloadflags = 0;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "32-bit");
}

static void refuses_a_kernel_without_code(void **state)
{
	(void)state;
	bz.setup.syssize = 0;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "no code");
}

static void refuses_a_code_size_beyond_the_file(void **state)
{
	(void)state;
	bz.setup.syssize = 0xffffffff;
	expect_refused(&bz, sizeof(bz), -ENOEXEC, "truncated");
}

static void refuses_impossible_load_addresses(void **state)
{
	const uint64_t addresses[] = {0,           0xff000,    0x1000001,         0xffffffff,
				      0x100000000, UINT64_MAX, UINT64_MAX - 0xfff};

	(void)state;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		bz.setup.pref_address = addresses[i];
		expect_refused(&bz, sizeof(bz), -ENOEXEC, "damaged");
	}
}

static void refuses_other_architectures_and_formats(void **state)
{
	uint8_t other[4096];

	(void)state;
	memset(other, 0, sizeof(other));
	memcpy(other + 0x38, "ARMd", 4);
	expect_refused(other, sizeof(other), -ENOEXEC, "aarch64");
	memcpy(other + 0x38, "RSC\x05", 4);
	expect_refused(other, sizeof(other), -ENOEXEC, "RISC-V");
	memcpy(other, "\x1f\x8b\x08", 3);
	memset(other + 0x38, 0, 4);
	expect_refused(other, sizeof(other), -ENOEXEC, "compressed");
	memcpy(other, "070701", 6);
	expect_refused(other, sizeof(other), -ENOEXEC, "--initrd");
	memset(other, 'x', sizeof(other));
	expect_refused(other, sizeof(other), -ENOEXEC, "not a kernel");
}

static void refuses_what_is_no_file_with_bytes(void **state)
{
	struct boot_image *image = NULL;
	struct error err;

	(void)state;
	assert_int_equal(boot_image_open("/nowhere/kernel", NULL, "", &image, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/kernel"));
	assert_int_equal(boot_image_open("/", NULL, "", &image, &err), -EISDIR);
	assert_non_null(strstr(err.text, "directory"));
	assert_int_equal(boot_image_open("/dev/null", NULL, "", &image, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	expect_refused("", 0, -EINVAL, "empty");
}

static void refuses_a_bad_initrd(void **state)
{
	struct image_file kernel = image_file_make(&bz, sizeof(bz));
	struct boot_image *image = NULL;
	struct error err;

	(void)state;
	assert_int_equal(boot_image_open(kernel.path, "/nowhere", "", &image, &err), -ENOENT);
	assert_non_null(strstr(err.text, "initrd /nowhere"));
	assert_int_equal(boot_image_open(kernel.path, "/", "", &image, &err), -EISDIR);
	close(kernel.fd);
}

static void takes_the_longest_command_line_and_no_longer(void **state)
{
	struct image_file kernel = image_file_make(&bz, sizeof(bz));
	char line[BZIMAGE_CMDLINE + 2];
	struct boot_image *image = NULL;
	struct error err;

	(void)state;
	memset(line, 'a', sizeof(line));
	line[BZIMAGE_CMDLINE] = '\0';
	boot_image_close(open_image(&kernel, NULL, line));
	line[BZIMAGE_CMDLINE] = 'a';
	line[BZIMAGE_CMDLINE + 1] = '\0';
	assert_int_equal(boot_image_open(kernel.path, NULL, line, &image, &err), -E2BIG);
	assert_non_null(strstr(err.text, "256 characters"));
	close(kernel.fd);
}

static void refuses_a_kernel_larger_than_ram(void **state)
{
	struct guest_memory *memory = guest_ram(16 * MIB);
	struct platform platform = {.cpus = 1, .memory = memory};
	struct image_file file = image_file_make(&bz, sizeof(bz));
	struct boot_image *image = open_image(&file, NULL, "");
	struct boot_entry entry;
	struct error err;

	(void)state;
	assert_int_equal(boot_image_load(image, &platform, &entry, &err), -E2BIG);
	assert_non_null(strstr(err.text, "needs 18 MiB"));
	assert_non_null(strstr(err.text, "16 MiB"));
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

static void boots_in_ram_that_ends_where_the_kernel_does(void **state)
{
	struct guest_memory *memory = guest_ram(BZIMAGE_LOAD + BZIMAGE_RUNNING);
	struct image_file file = image_file_make(&bz, sizeof(bz));
	struct boot_image *image = open_image(&file, NULL, "");

	(void)state;
	load_image(image, memory);
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

static void refuses_an_initrd_that_does_not_fit(void **state)
{
	struct guest_memory *memory = guest_ram(32 * MIB);
	struct platform platform = {.cpus = 1, .memory = memory};
	struct image_file kernel = image_file_make(&bz, sizeof(bz));
	struct image_file initrd = image_file_make("x", 1);
	struct boot_entry entry;
	struct error err;

	(void)state;
	assert_int_equal(ftruncate(initrd.fd, (off_t)(16 * MIB)), 0);
	struct boot_image *image = open_image(&kernel, &initrd, "");
	assert_int_equal(boot_image_load(image, &platform, &entry, &err), -E2BIG);
	assert_non_null(strstr(err.text, "initrd"));
	assert_non_null(strstr(err.text, "16 MiB"));
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(kernel.fd);
	close(initrd.fd);
}

/* The zero page of a guest with @ram bytes and an initrd of @initrd_size bytes. */
static void boot_with(uint64_t ram, off_t initrd_size, const char *cmdline,
		      struct boot_params *params, struct guest_memory **memory_out)
{
	struct guest_memory *memory = guest_ram(ram);
	struct image_file kernel = image_file_make(&bz, sizeof(bz));
	struct image_file initrd = image_file_make("i", 1);

	assert_int_equal(ftruncate(initrd.fd, initrd_size), 0);
	struct boot_image *image = open_image(&kernel, initrd_size ? &initrd : NULL, cmdline);
	struct boot_entry entry = load_image(image, memory);
	assert_int_equal(entry.protocol, BOOT_LINUX64);
	assert_int_equal(entry.entry, BZIMAGE_LOAD + 0x200);
	assert_int_equal(guest_memory_read(memory, entry.parameter, params, sizeof(*params)), 0);
	boot_image_close(image);
	close(kernel.fd);
	close(initrd.fd);
	*memory_out = memory;
}

static void copies_the_code(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;
	uint8_t code[BZIMAGE_CODE];

	(void)state;
	boot_with(RAM, 0, "", &params, &memory);
	assert_int_equal(guest_memory_read(memory, BZIMAGE_LOAD, code, sizeof(code)), 0);
	assert_memory_equal(code, bz.code, sizeof(code));
	guest_memory_destroy(memory);
}

static void hands_over_the_setup_header_and_nothing_else_of_the_file(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;

	(void)state;
	memset(bz.before, 0xee, sizeof(bz.before));
	memset(bz.after, 0xee, sizeof(bz.after));
	boot_with(RAM, 0, "console=ttyS0", &params, &memory);
	assert_int_equal(params.hdr.header, 0x53726448);
	assert_int_equal(params.hdr.pref_address, BZIMAGE_LOAD);
	assert_int_equal(params.hdr.type_of_loader, 0xff);
	assert_int_equal(params.acpi_rsdp_addr, BOOT_ACPI);
	assert_int_equal(params.hdr.setup_data, 0);
	assert_int_equal(params.hdr.ramdisk_size, 0);
	assert_int_equal(params.sentinel, 0);
	assert_int_equal(params.screen_info.orig_video_isVGA, 0);
	char line[32];
	assert_int_equal(guest_memory_read(memory, params.hdr.cmd_line_ptr, line, sizeof(line)), 0);
	assert_string_equal(line, "console=ttyS0");
	assert_int_equal(guest_u64(memory, BOOT_ACPI), 0x2052545020445352); /* "RSD PTR " */
	guest_memory_destroy(memory);
}

static void puts_the_initrd_as_high_as_allowed(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;
	char first;

	(void)state;
	boot_with(RAM, 5000, "", &params, &memory);
	assert_int_equal(params.hdr.ramdisk_image, RAM - 8192);
	assert_int_equal(params.hdr.ramdisk_size, 5000);
	assert_int_equal(guest_memory_read(memory, params.hdr.ramdisk_image, &first, 1), 0);
	assert_int_equal(first, 'i');
	guest_memory_destroy(memory);

	boot_with(5 * GIB, 5000, "", &params, &memory);
	assert_int_equal(params.hdr.ramdisk_image, 0x80000000 - 8192);
	guest_memory_destroy(memory);

	bz.setup.initrd_addr_max = 0xffffffff;
	boot_with(5 * GIB, 5000, "", &params, &memory);
	assert_int_equal(params.hdr.ramdisk_image, 0xc0000000 - 8192);
	guest_memory_destroy(memory);
}

static void puts_the_initrd_below_the_kernel_in_a_small_guest(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;

	(void)state;
	boot_with(20 * MIB, 4 * MIB, "", &params, &memory);
	assert_int_equal(params.hdr.ramdisk_image, BZIMAGE_LOAD - 4 * MIB);
	guest_memory_destroy(memory);
}

static void tells_the_memory_map(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;
	struct memory_map_entry map[MEMORY_MAP_ENTRIES_MAX];

	(void)state;
	boot_with(5 * GIB, 0, "", &params, &memory);
	size_t count = memory_map_entries(memory, map);
	assert_int_equal(params.e820_entries, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(params.e820_table[i].addr, map[i].base);
		assert_int_equal(params.e820_table[i].size, map[i].size);
		assert_int_equal(params.e820_table[i].type, map[i].type);
	}
	guest_memory_destroy(memory);
}

static void maps_the_first_4_gib_to_themselves(void **state)
{
	const gpa_t addresses[] = {0, 0x1fffff, BZIMAGE_LOAD, 0xbfffffff, 0xffffffff};
	struct boot_params params;
	struct guest_memory *memory;

	(void)state;
	boot_with(RAM, 0, "", &params, &memory);
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		gpa_t at = addresses[i];
		uint64_t pml4e = guest_u64(memory, BOOT_PAGE_TABLES);
		uint64_t pdpte = guest_u64(memory, (pml4e & ~0xfffull) + (at >> 30) * 8);
		uint64_t pde = guest_u64(memory, (pdpte & ~0xfffull) + (at >> 21 & 511) * 8);

		assert_int_equal(pml4e & 3, 3);
		assert_int_equal(pdpte & 3, 3);
		assert_int_equal(pde & 0x83, 0x83);
		assert_int_equal((pde & ~0x1fffffull) + (at & 0x1fffff), at);
	}
	guest_memory_destroy(memory);
}

static void passes_the_device_tree_when_acpi_is_off(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;
	struct setup_data head;
	uint32_t magic;

	(void)state;
	boot_with(RAM, 0, "quiet acpi=off", &params, &memory);
	assert_int_equal(params.hdr.setup_data, BOOT_DTB);
	assert_int_equal(guest_memory_read(memory, BOOT_DTB, &head, sizeof(head)), 0);
	assert_int_equal(head.type, SETUP_DTB);
	assert_int_equal(head.next, 0);
	assert_int_equal(guest_memory_read(memory, BOOT_DTB + sizeof(head), &magic, 4), 0);
	assert_int_equal(magic, __builtin_bswap32(0xd00dfeed));
	guest_memory_destroy(memory);

	boot_with(RAM, 0, "xacpi=off acpi=offx", &params, &memory);
	assert_int_equal(params.hdr.setup_data, 0);
	guest_memory_destroy(memory);
}

static void resets_a_guest_that_jumps_to_the_bios(void **state)
{
	struct boot_params params;
	struct guest_memory *memory;

	(void)state;
	boot_with(RAM, 0, "", &params, &memory);
	/* mov al, 0xfe; out 0x64, al; hlt; jmp */
	assert_int_equal(guest_u64(memory, 0xffff0), 0x00fdebf464e6feb0);
	guest_memory_destroy(memory);
}

static void loads_again_after_a_reset(void **state)
{
	struct guest_memory *memory = guest_ram(RAM);
	struct image_file file = image_file_make(&bz, sizeof(bz));
	struct boot_image *image = open_image(&file, NULL, "again");
	struct boot_entry first = load_image(image, memory);

	(void)state;
	assert_int_equal(guest_memory_discard_all(memory), 0);
	struct boot_entry second = load_image(image, memory);
	assert_int_equal(first.protocol, second.protocol);
	assert_int_equal(first.entry, second.entry);
	assert_int_equal(first.parameter, second.parameter);
	assert_int_equal(first.dtb, second.dtb);
	assert_int_equal(guest_u64(memory, BZIMAGE_LOAD) & 0xff, code_byte(0));
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

static void reports_a_file_that_shrank_since_it_was_opened(void **state)
{
	struct guest_memory *memory = guest_ram(RAM);
	struct platform platform = {.cpus = 1, .memory = memory};
	struct image_file file = image_file_make(&bz, sizeof(bz));
	struct boot_image *image = open_image(&file, NULL, "");
	struct boot_entry entry;
	struct error err;

	(void)state;
	assert_int_equal(ftruncate(file.fd, BZIMAGE_SETUP + 100), 0);
	assert_int_equal(boot_image_load(image, &platform, &entry, &err), -EIO);
	assert_non_null(strstr(err.text, "shorter"));
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(refuses_files_cut_at_any_length, setup),
		cmocka_unit_test_setup(refuses_a_missing_magic, setup),
		cmocka_unit_test_setup(refuses_an_old_protocol, setup),
		cmocka_unit_test_setup(refuses_a_zimage, setup),
		cmocka_unit_test_setup(refuses_a_32_bit_kernel, setup),
		cmocka_unit_test_setup(refuses_a_kernel_without_code, setup),
		cmocka_unit_test_setup(refuses_a_code_size_beyond_the_file, setup),
		cmocka_unit_test_setup(refuses_impossible_load_addresses, setup),
		cmocka_unit_test_setup(refuses_other_architectures_and_formats, setup),
		cmocka_unit_test_setup(refuses_what_is_no_file_with_bytes, setup),
		cmocka_unit_test_setup(refuses_a_bad_initrd, setup),
		cmocka_unit_test_setup(takes_the_longest_command_line_and_no_longer, setup),
		cmocka_unit_test_setup(refuses_a_kernel_larger_than_ram, setup),
		cmocka_unit_test_setup(boots_in_ram_that_ends_where_the_kernel_does, setup),
		cmocka_unit_test_setup(refuses_an_initrd_that_does_not_fit, setup),
		cmocka_unit_test_setup(copies_the_code, setup),
		cmocka_unit_test_setup(hands_over_the_setup_header_and_nothing_else_of_the_file,
				       setup),
		cmocka_unit_test_setup(puts_the_initrd_as_high_as_allowed, setup),
		cmocka_unit_test_setup(puts_the_initrd_below_the_kernel_in_a_small_guest, setup),
		cmocka_unit_test_setup(tells_the_memory_map, setup),
		cmocka_unit_test_setup(maps_the_first_4_gib_to_themselves, setup),
		cmocka_unit_test_setup(passes_the_device_tree_when_acpi_is_off, setup),
		cmocka_unit_test_setup(resets_a_guest_that_jumps_to_the_bios, setup),
		cmocka_unit_test_setup(loads_again_after_a_reset, setup),
		cmocka_unit_test_setup(reports_a_file_that_shrank_since_it_was_opened, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
