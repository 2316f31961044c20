/* A bzImage of any contents behind a header that is right where the input leaves it alone. */
#include "tests/fuzz/input.h"
#include "tests/fuzz/kernel.h"
#include "tests/unit/arch_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct bzimage image;
	size_t length = sizeof(image) - fuzz_u8(&input) * 16u;

	bzimage_make(&image);
	/* Changes: an offset into the header, and a byte to stand there. */
	while (fuzz_more(&input)) {
		size_t at = 0x1f1 + fuzz_u8(&input) % (BZIMAGE_SETUP - 0x1f1);

		((uint8_t *)&image)[at] = fuzz_u8(&input);
	}
	fuzz_boot(&image, length, NULL, 0, "console=ttyS0", 64ul << 20);
	return 0;
}
