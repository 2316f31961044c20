/* Sizes and policies as people write them: what is understood is written back as the same. */
#include "vmm/machine/swap_policy.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "vmm/base/size.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[256], again[SWAP_POLICY_TEXT_MAX];
	struct fuzz_input input = {data, size};
	struct swap_policy_config config, same;
	struct error err;
	uint64_t bytes;

	text[fuzz_take(&input, text, sizeof(text) - 1)] = '\0';
	size_parse(text, &bytes);
	if (!swap_policy_parse(text, &config, &err)) {
		swap_policy_format(&config, again);
		if (swap_policy_parse(again, &same, &err) || same.idle_ns != config.idle_ns ||
		    same.pressure != config.pressure)
			abort();
	}
	return 0;
}
