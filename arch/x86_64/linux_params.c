/* boot_params, the "zero page" (Documentation/arch/x86/zero-page.rst in the Linux sources). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "arch/x86_64/boot_layout.h"
#include "arch/x86_64/kernel.h"
#include "arch/x86_64/memory_map.h"

#define LOADER_UNDEFINED 0xff /* type_of_loader of one without an assigned number */
#define VID_MODE_NORMAL  0xffff

static_assert(sizeof(struct boot_params) == GUEST_PAGE_SIZE, "the zero page");
static_assert(sizeof(struct setup_data) == BOOT_DTB_BLOB - BOOT_DTB, "room before the tree");
static_assert(MEMORY_MAP_ENTRIES_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "room for the memory map");

static void fill_memory_map(struct boot_params *params, const struct guest_memory *memory)
{
	struct memory_map_entry entries[MEMORY_MAP_ENTRIES_MAX];
	size_t count = memory_map_entries(memory, entries);

	for (size_t i = 0; i < count; i++) {
		params->e820_table[i].addr = entries[i].base;
		params->e820_table[i].size = entries[i].size;
		params->e820_table[i].type = entries[i].type;
	}
	params->e820_entries = (uint8_t)count;
}

/* True if @word stands in the command line by itself. */
static bool cmdline_has(const char *cmdline, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = strstr(cmdline, word); at; at = strstr(at + 1, word)) {
		bool begins = at == cmdline || at[-1] == ' ';
		bool ends = at[length] == '\0' || at[length] == ' ';

		if (begins && ends)
			return true;
	}
	return false;
}

/* Links the device tree in; see boot.h for when. */
static int pass_device_tree(struct boot_params *params, const struct boot_contents *contents)
{
	const struct setup_data head = {
		.next = 0, .type = SETUP_DTB, .len = (uint32_t)contents->dtb_size};

	if (!cmdline_has(contents->platform->cmdline, "acpi=off"))
		return 0;
	params->hdr.setup_data = BOOT_DTB;
	return guest_memory_write(contents->platform->memory, BOOT_DTB, &head, sizeof(head));
}

int linux_params_write(const struct kernel *kernel, const struct boot_contents *contents)
{
	const struct platform *platform = contents->platform;
	struct boot_params *params = calloc(1, sizeof(*params));
	int r;

	if (!params)
		return -ENOMEM;
	params->hdr = kernel->setup;
	params->hdr.type_of_loader = LOADER_UNDEFINED;
	params->hdr.loadflags &= LOADED_HIGH;
	params->hdr.vid_mode = VID_MODE_NORMAL;
	params->hdr.setup_data = 0;
	params->hdr.cmd_line_ptr = (uint32_t)contents->cmdline;
	params->hdr.ramdisk_image = (uint32_t)platform->initrd_start;
	params->hdr.ramdisk_size = (uint32_t)platform->initrd_size;
	params->acpi_rsdp_addr = contents->rsdp;
	fill_memory_map(params, platform->memory);
	r = pass_device_tree(params, contents);
	if (r == 0)
		r = guest_memory_write(platform->memory, BOOT_PARAMS, params, sizeof(*params));
	free(params);
	return r;
}
