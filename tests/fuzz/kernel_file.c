/* Any bytes as a kernel: what it is, is found out from the file alone. */
#include "tests/fuzz/input.h"
#include "tests/fuzz/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* By the last byte, which no kernel begins with: with itself as its initrd, or without. */
	const uint8_t *initrd = size && data[size - 1] & 1 ? data : NULL;

	fuzz_boot(data, size, initrd, initrd ? size : 0, "console=ttyS0", 32ul << 20);
	return 0;
}
