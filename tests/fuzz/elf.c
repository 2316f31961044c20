/* An ELF file with PVH notes: right where the input leaves it alone, and of any length. */
#include "tests/fuzz/input.h"
#include "tests/fuzz/kernel.h"
#include "tests/unit/arch_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct elf_image image;
	size_t length = sizeof(image) - fuzz_u8(&input);

	elf_make(&image);
	while (fuzz_more(&input)) {
		size_t at = fuzz_u8(&input) % offsetof(struct elf_image, code);

		((uint8_t *)&image)[at] = fuzz_u8(&input);
	}
	fuzz_boot(&image, length, NULL, 0, "", 32ul << 20);
	return 0;
}
