/* Any bytes as a kernel: what it is, is found out from the file alone. */
#include "tests/fuzz/input.h"
#include "tests/fuzz/kernel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_boot(data, size, NULL, 0, "", 32ul << 20);
	return 0;
}
