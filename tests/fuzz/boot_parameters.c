/* Command line, initrd and size of RAM as they come, for a kernel that is right. */
#include "tests/fuzz/input.h"
#include "tests/fuzz/kernel.h"
#include "tests/unit/arch_image.h"

#define CMDLINE_ROOM 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t initrd[1u << 20];
	static char cmdline[CMDLINE_ROOM + 1];
	struct fuzz_input input = {data, size};
	struct bzimage bzimage;
	struct elf_image elf;
	unsigned long memory = (16ul + fuzz_u8(&input)) << 20;
	bool pvh = fuzz_u8(&input) & 1;
	size_t initrd_size = fuzz_u32(&input) % sizeof(initrd);

	bzimage_make(&bzimage);
	elf_make(&elf);
	bzimage.setup.initrd_addr_max = fuzz_u32(&input);
	bzimage.setup.cmdline_size = fuzz_u32(&input);
	bzimage.setup.init_size = fuzz_u32(&input);
	cmdline[fuzz_take(&input, cmdline, CMDLINE_ROOM)] = '\0';
	if (pvh)
		fuzz_boot(&elf, sizeof(elf), initrd, initrd_size, cmdline, memory);
	else
		fuzz_boot(&bzimage, sizeof(bzimage), initrd, initrd_size, cmdline, memory);
	return 0;
}
