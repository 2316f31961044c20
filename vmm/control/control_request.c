#include <errno.h>

#include "vmm/control/commands.h"
#include "vmm/control/control_server_internal.h"
#include "vmm/control/events.h"

static int start_operation(struct control_connection *client, const struct command *command,
			   const struct control_request *request)
{
	struct control_server *server = client->server;
	struct error error = {0};
	json_t *answer = NULL;
	int result = control_operation_start(&server->operation, &server->host, command, request,
					     &answer, &error);

	if (result)
		return connection_send_answer(
			client, control_code_from_errno(result < 0 ? result : 0), answer, &error);
	client->waits = true;
	control_server_run_timer(server);
	return 0;
}

/* `events`: what comes next are lines of events. -errno: drop the client. */
static int begin_to_follow(struct control_connection *client, const struct control_request *request)
{
	const struct control_host *host = &client->server->host;
	json_t *subscribed;
	struct error error = {0};
	uint64_t since;
	int result = commands_parse_events(host, request, &since, &subscribed, &error);

	if (result)
		return connection_send_error(client, control_code_from_errno(result), error.text);
	client->follows = true;
	client->sequence = since;
	return connection_send_line(
		client, events_format("subscribed", events_last(host->events), subscribed));
}

/* Carries out one request. -errno: drop the client. */
static int carry_out(struct control_connection *client, const struct control_request *request)
{
	const struct control_host *host = &client->server->host;
	const struct command *command = commands_find(request->command);
	struct error error = {0};
	json_t *answer;
	int result;

	if (!command) {
		error_say(&error, EINVAL, "unknown command \"%.80s\"; `help` lists them",
			  request->command);
		return connection_send_error(client, CONTROL_UNKNOWN_COMMAND, error.text);
	}
	if (request->argument_count > command->arguments_max) {
		error_say(&error, EINVAL,
			  "too many arguments; usage: %s%s%s (`help` lists all commands)",
			  command->name, command->arguments ? " " : "",
			  commands_arguments(command));
		return connection_send_error(client, CONTROL_INVALID_ARGUMENT, error.text);
	}
	if (request->argument_count < command->arguments_min) {
		error_say(&error, EINVAL, "an argument is missing; usage: %s %s", command->name,
			  commands_arguments(command));
		return connection_send_error(client, CONTROL_INVALID_ARGUMENT, error.text);
	}
	if (command->operation != SWAP_OP_NONE)
		return start_operation(client, command, request);
	if (command->streams)
		return begin_to_follow(client, request);
	result = command->run(host, request, &answer, &error);
	if (command->changes)
		events_look(host->events);
	if (result)
		return connection_send_error(client, control_code_from_errno(result), error.text);
	result = connection_send_line(client, control_format_line("result", answer));
	if (command->quits)
		host->quit(host->opaque);
	return result;
}

int control_request_handle(struct control_connection *client, const char *line, size_t length)
{
	struct control_request request;
	struct error error = {0};
	enum control_code code = control_request_parse(line, length, &request, &error);
	int result;

	if (code != CONTROL_OK)
		return connection_send_error(client, code, error.text);
	request.file = client->file;
	result = carry_out(client, &request);
	connection_forget_file(client);
	control_request_clear(&request);
	return result;
}
