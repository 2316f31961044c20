/* An ELF kernel: what is refused, and what a PVH guest finds in its memory. */
#include <errno.h>

#include "arch_image.h"

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/pvh.h"
#include "vmm/base/size.h"

static struct elf_image elf;

static int setup(void **state)
{
	(void)state;
	elf_make(&elf);
	return 0;
}

static void refuses_files_cut_at_any_length(void **state)
{
	(void)state;
	for (size_t size = 4; size < sizeof(elf); size++) {
		struct image_file file = image_file_make(&elf, size);
		struct boot_image *image = NULL;
		struct error err = {.text = ""};

		assert_int_equal(boot_image_open(file.path, NULL, NULL, &image, &err), -ENOEXEC);
		assert_non_null(strstr(err.text, "truncated"));
		close(file.fd);
	}
}

static void names_the_other_architecture(void **state)
{
	(void)state;
	elf.header.e_machine = EM_AARCH64;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "aarch64");
	elf.header.e_machine = EM_386;
	elf.header.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "i386");
	elf.header.e_machine = __builtin_bswap16(EM_S390);
	elf.header.e_ident[EI_DATA] = ELFDATA2MSB;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "s390");
	elf_make(&elf);
	elf.header.e_machine = 0x7777;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "30583");
}

static void refuses_what_is_not_executable(void **state)
{
	(void)state;
	elf.header.e_type = ET_REL;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "module");
	elf.header.e_type = ET_CORE;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "not an executable");
	elf_make(&elf);
	elf.header.e_ident[EI_CLASS] = ELFCLASS32;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "not a 64-bit");
}

static void refuses_senseless_program_header_tables(void **state)
{
	(void)state;
	elf.header.e_phnum = 0;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "makes no sense");
	elf.header.e_phnum = 0xffff;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "makes no sense");
	elf_make(&elf);
	elf.header.e_phentsize = 1;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "makes no sense");
	elf_make(&elf);
	elf.header.e_phoff = UINT64_MAX - 16;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "outside");
}

static void refuses_segments_outside_of_the_file(void **state)
{
	const uint64_t huge[] = {sizeof(elf), INT64_MAX, UINT64_MAX - 1, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
		elf_make(&elf);
		elf.load.p_offset = huge[i];
		expect_refused(&elf, sizeof(elf), -ENOEXEC, "outside of the file");
		elf_make(&elf);
		elf.load.p_filesz = huge[i];
		elf.load.p_memsz = UINT64_MAX;
		expect_refused(&elf, sizeof(elf), -ENOEXEC, "outside of the file");
	}
	elf_make(&elf);
	elf.load.p_offset = UINT64_MAX - 10;
	elf.load.p_filesz = 100;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "outside of the file");
}

static void refuses_segments_at_impossible_addresses(void **state)
{
	(void)state;
	elf.load.p_paddr = UINT64_MAX - 100;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "above the 4 GiB");
	elf.load.p_paddr = 0xfffff000;
	elf.load.p_memsz = 0x1001;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "above the 4 GiB");
	elf.load.p_paddr = ELF_LOAD;
	elf.load.p_memsz = UINT64_MAX - 5;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "above the 4 GiB");
	elf_make(&elf);
	elf.load.p_paddr = 0x7000;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "below 1 MiB");
	elf_make(&elf);
	elf.load.p_memsz = ELF_CODE - 1;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "larger in the file");
}

static void refuses_a_file_with_nothing_to_load(void **state)
{
	(void)state;
	elf.load.p_type = PT_NULL;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "damaged");
}

static void refuses_an_entry_outside_of_the_code(void **state)
{
	(void)state;
	elf.notes[1].entry = ELF_LOAD + ELF_CODE;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "entry point");
	elf.notes[1].entry = ELF_LOAD - 1;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "entry point");
}

static void refuses_a_kernel_without_the_note(void **state)
{
	(void)state;
	elf.notes[1].head.n_type = 17;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
	elf_make(&elf);
	elf.notes[1].name[3] = '!';
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
	elf_make(&elf);
	elf.note.p_type = PT_NULL;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
	elf_make(&elf);
	elf.notes[1].head.n_descsz = 3;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
}

static void refuses_notes_that_lie_about_their_sizes(void **state)
{
	const uint32_t sizes[] = {5, 0x100, 0x7fffffff, 0xfffffff0, 0xffffffff};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		elf_make(&elf);
		elf.notes[0].head.n_namesz = sizes[i];
		elf.notes[1].head.n_type = 0;
		expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
		elf_make(&elf);
		elf.notes[1].head.n_descsz = sizes[i];
		expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
		elf_make(&elf);
		elf.notes[1].head.n_namesz = sizes[i];
		expect_refused(&elf, sizeof(elf), -ENOEXEC, "CONFIG_PVH");
	}
}

static void refuses_note_segments_outside_of_the_file(void **state)
{
	(void)state;
	elf.note.p_offset = UINT64_MAX - 3;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "notes lie outside");
	elf_make(&elf);
	elf.note.p_filesz = UINT64_MAX;
	expect_refused(&elf, sizeof(elf), -ENOEXEC, "notes lie outside");
}

static void takes_an_entry_of_eight_bytes(void **state)
{
	struct {
		Elf64_Nhdr head;
		char name[4];
		uint64_t entry;
	} __attribute__((packed)) note = {{4, 8, 18}, "Xen", ELF_ENTRY + 1};
	struct guest_memory *memory = guest_ram(16 * MIB);

	(void)state;
	memset(elf.notes, 0, sizeof(elf.notes));
	memcpy(elf.notes, &note, sizeof(note));
	struct image_file file = image_file_make(&elf, sizeof(elf));
	struct boot_image *image = open_image(&file, NULL, "");
	assert_int_equal(load_image(image, memory).entry, ELF_ENTRY + 1);
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

static void refuses_a_kernel_larger_than_ram(void **state)
{
	struct guest_memory *memory = guest_ram(16 * MIB);
	struct platform platform = {.cpus = 1, .memory = memory};
	struct boot_entry entry;
	struct error err;

	(void)state;
	elf.load.p_memsz = 14 * MIB + 1; /* from 2 MiB */
	struct image_file file = image_file_make(&elf, sizeof(elf));
	struct boot_image *image = open_image(&file, NULL, "");
	assert_int_equal(boot_image_load(image, &platform, &entry, &err), -E2BIG);
	assert_non_null(strstr(err.text, "needs 17 MiB"));
	boot_image_close(image);
	guest_memory_destroy(memory);
	close(file.fd);
}

static void refuses_a_command_line_that_linux_would_cut(void **state)
{
	struct image_file file = image_file_make(&elf, sizeof(elf));
	char line[2049];
	struct boot_image *image;
	struct error err;

	(void)state;
	memset(line, 'a', sizeof(line));
	line[2048] = '\0';
	assert_int_equal(boot_image_open(file.path, NULL, line, &image, &err), -E2BIG);
	line[2047] = '\0';
	boot_image_close(open_image(&file, NULL, line));
	close(file.fd);
}

/* Boots the image and reads what EBX points to. */
static struct guest_memory *boot_with(const struct image_file *initrd, const char *cmdline,
				      struct boot_entry *entry, struct pvh_start_info *info,
				      struct pvh_module modules[PVH_MODULES])
{
	struct guest_memory *memory = guest_ram(16 * MIB);
	struct image_file file = image_file_make(&elf, sizeof(elf));
	struct boot_image *image = open_image(&file, initrd, cmdline);

	*entry = load_image(image, memory);
	assert_int_equal(entry->protocol, BOOT_PVH);
	assert_int_equal(guest_memory_read(memory, entry->parameter, info, sizeof(*info)), 0);
	assert_int_equal(guest_memory_read(memory, info->module_list, modules,
					   PVH_MODULES * sizeof(*modules)),
			 0);
	boot_image_close(image);
	close(file.fd);
	return memory;
}

static void fills_in_the_start_info(void **state)
{
	struct boot_entry entry;
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct guest_memory *memory = boot_with(NULL, "hello guest", &entry, &info, modules);
	char text[16];

	(void)state;
	assert_int_equal(entry.entry, ELF_ENTRY);
	assert_int_equal(info.magic, 0x336ec578);
	assert_int_equal(info.version, 1);
	assert_int_equal(info.modules, 2);
	assert_int_equal(info.rsdp, BOOT_ACPI);
	assert_int_equal(guest_memory_read(memory, info.cmdline, text, sizeof(text)), 0);
	assert_string_equal(text, "hello guest");
	guest_memory_destroy(memory);
}

static void passes_the_device_tree_as_the_module_dtb(void **state)
{
	struct boot_entry entry;
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct guest_memory *memory = boot_with(NULL, "", &entry, &info, modules);
	char name[4];
	uint32_t magic;

	(void)state;
	assert_int_equal(modules[0].size, 0);
	assert_int_equal(modules[1].address, entry.dtb);
	assert_int_equal(modules[1].size, entry.dtb_size);
	assert_int_equal(guest_memory_read(memory, modules[1].cmdline, name, sizeof(name)), 0);
	assert_string_equal(name, "dtb");
	assert_int_equal(guest_memory_read(memory, modules[1].address, &magic, sizeof(magic)), 0);
	assert_int_equal(magic, __builtin_bswap32(0xd00dfeed));
	guest_memory_destroy(memory);
}

static void passes_the_initrd_as_the_first_module(void **state)
{
	struct boot_entry entry;
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct image_file initrd = image_file_make("initrd!", 7);
	struct guest_memory *memory = boot_with(&initrd, "", &entry, &info, modules);
	char text[8] = "";

	(void)state;
	assert_int_equal(modules[0].address, 16 * MIB - 4096);
	assert_int_equal(modules[0].size, 7);
	assert_int_equal(guest_memory_read(memory, modules[0].address, text, 7), 0);
	assert_string_equal(text, "initrd!");
	guest_memory_destroy(memory);
	close(initrd.fd);
}

static void tells_the_memory_map(void **state)
{
	struct boot_entry entry;
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct guest_memory *memory = boot_with(NULL, "", &entry, &info, modules);
	struct memory_map_entry map[MEMORY_MAP_ENTRIES_MAX];
	size_t count = memory_map_entries(memory, map);

	(void)state;
	assert_int_equal(info.memory_map_entries, count);
	for (size_t i = 0; i < count; i++) {
		struct pvh_memory_map_entry e;

		assert_int_equal(
			guest_memory_read(memory, info.memory_map + i * sizeof(e), &e, sizeof(e)),
			0);
		assert_int_equal(e.address, map[i].base);
		assert_int_equal(e.size, map[i].size);
		assert_int_equal(e.type, map[i].type);
	}
	guest_memory_destroy(memory);
}

static void leaves_the_bss_zero(void **state)
{
	struct boot_entry entry;
	struct pvh_start_info info;
	struct pvh_module modules[PVH_MODULES];
	struct guest_memory *memory = boot_with(NULL, "", &entry, &info, modules);
	uint8_t loaded[ELF_CODE + ELF_BSS];

	(void)state;
	assert_int_equal(guest_memory_read(memory, ELF_LOAD, loaded, sizeof(loaded)), 0);
	assert_memory_equal(loaded, elf.code, ELF_CODE);
	for (size_t i = ELF_CODE; i < sizeof(loaded); i++)
		assert_int_equal(loaded[i], 0);
	guest_memory_destroy(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(refuses_files_cut_at_any_length, setup),
		cmocka_unit_test_setup(names_the_other_architecture, setup),
		cmocka_unit_test_setup(refuses_what_is_not_executable, setup),
		cmocka_unit_test_setup(refuses_senseless_program_header_tables, setup),
		cmocka_unit_test_setup(refuses_segments_outside_of_the_file, setup),
		cmocka_unit_test_setup(refuses_segments_at_impossible_addresses, setup),
		cmocka_unit_test_setup(refuses_a_file_with_nothing_to_load, setup),
		cmocka_unit_test_setup(refuses_an_entry_outside_of_the_code, setup),
		cmocka_unit_test_setup(refuses_a_kernel_without_the_note, setup),
		cmocka_unit_test_setup(refuses_notes_that_lie_about_their_sizes, setup),
		cmocka_unit_test_setup(refuses_note_segments_outside_of_the_file, setup),
		cmocka_unit_test_setup(takes_an_entry_of_eight_bytes, setup),
		cmocka_unit_test_setup(refuses_a_kernel_larger_than_ram, setup),
		cmocka_unit_test_setup(refuses_a_command_line_that_linux_would_cut, setup),
		cmocka_unit_test_setup(fills_in_the_start_info, setup),
		cmocka_unit_test_setup(passes_the_device_tree_as_the_module_dtb, setup),
		cmocka_unit_test_setup(passes_the_initrd_as_the_first_module, setup),
		cmocka_unit_test_setup(tells_the_memory_map, setup),
		cmocka_unit_test_setup(leaves_the_bss_zero, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
