/* A line on the control socket, and what a client makes of it. */
#include "vmm/control_protocol.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "vmm/commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request request;
	struct error err;

	if (control_request_parse((const char *)data, size, &request, &err) == CONTROL_OK) {
		if (!request.command || request.argument_count > CONTROL_ARGUMENTS_MAX)
			abort();
		commands_find(request.command);
		control_request_clear(&request);
	}
	return 0;
}
