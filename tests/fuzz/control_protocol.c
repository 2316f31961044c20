/* A line on the control socket, and what a client makes of it. */
#include "vmm/control/control_protocol.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/input.h"
#include "vmm/control/commands.h"

/* What this side makes of any words, the other side understands as the same. */
static void check_request(struct fuzz_input *input)
{
	char words[4][32];
	const char *arguments[3] = {words[1], words[2], words[3]};
	struct control_request request;
	struct error err;
	char *line;

	for (unsigned i = 0; i < 4; i++)
		words[i][fuzz_take(input, words[i], fuzz_u8(input) % sizeof(words[i]))] = '\0';
	line = control_format_request(words[0], arguments, fuzz_u8(input) & 3);
	if (!line)
		abort();
	if (control_request_parse(line, strlen(line) - 1, &request, &err) != CONTROL_OK)
		abort();
	control_request_clear(&request);
	free(line);
}

/* The same of refusals, and of results. */
static void check_answers(struct fuzz_input *input)
{
	char message[64];
	enum control_code code = control_code_from_errno(-(int)fuzz_u8(input));
	char *lines[2];

	message[fuzz_take(input, message, sizeof(message) - 1)] = '\0';
	lines[0] = control_format_error(code ? code : CONTROL_FAILED, message);
	lines[1] = control_format_line("result",
				       json_pack("{s:o}", "text", control_json_string(message)));
	for (unsigned i = 0; i < 2; i++) {
		const json_t *body;
		const char *kind;
		struct error err;
		json_t *answer = lines[i] ? control_answer_parse(lines[i], &kind, &body) : NULL;

		if (!answer ||
		    (!i && control_answer_error(body, &err) != (code ? code : CONTROL_FAILED)))
			abort();
		json_decref(answer);
		free(lines[i]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
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
	check_request(&input);
	check_answers(&input);
	return 0;
}
