/* What a VM answers, shown to a person: another user's VM may answer anything. */
#include "vmm/client/render.h"

#include <stdio.h>

#include "tests/fuzz/input.h"
#include "vmm/control/commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *null;
	struct fuzz_input input = {data, size};
	uint8_t which = fuzz_u8(&input);
	unsigned columns = fuzz_u8(&input);
	json_t *json = json_loadb((const char *)input.data, input.left,
				  JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);

	if (!null)
		null = fopen("/dev/null", "w");
	if (!json)
		return 0;
	render_result(null, commands[which % command_count].name, json);
	render_progress(null, json, columns);
	render_event(null, json);
	render_swap_all(null, json);
	render_swap_all_total(null, json);
	if (json_is_array(json))
		render_list(null, json);
	json_decref(json);
	return 0;
}
