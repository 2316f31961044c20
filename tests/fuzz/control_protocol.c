/* A line on the control socket, and what a client makes of it. */
#include "vmm/control/control_protocol.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "vmm/control/commands.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request request;
	struct error err;
	const char *kind;
	const json_t *body;
	char *line = strndup((const char *)data, size);
	json_t *answer = line ? control_answer_parse(line, &kind, &body) : NULL;

	if (answer && !strcmp(kind, "error"))
		control_answer_error(body, &err);
	json_decref(answer);
	free(line);
	if (control_request_parse((const char *)data, size, &request, &err) == CONTROL_OK) {
		if (!request.command || request.argument_count > CONTROL_ARGUMENTS_MAX)
			abort();
		commands_find(request.command);
		control_request_clear(&request);
	}
	return 0;
}
