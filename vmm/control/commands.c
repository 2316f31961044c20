#include "vmm/control/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/control/commands_internal.h"
#include "vmm/control/events.h"
#include "vmm/machine/machine.h"
#include "vmm/sandbox/sandbox.h"

static json_t *balloon_stats(const struct machine_balloon_status *balloon)
{
	if (!balloon->stats_valid)
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "free_bytes",
			 commands_number(balloon->stat_free), "total_bytes",
			 commands_number(balloon->stat_total), "available_bytes",
			 commands_number(balloon->stat_available), "swap_in_bytes",
			 commands_number(balloon->stat_swap_in), "swap_out_bytes",
			 commands_number(balloon->stat_swap_out), "disk_caches_bytes",
			 commands_number(balloon->stat_disk_caches), "major_faults",
			 commands_number(balloon->stat_major_faults), "minor_faults",
			 commands_number(balloon->stat_minor_faults));
}

static json_t *balloon_object(const struct machine_status *status)
{
	const struct machine_balloon_status *balloon = &status->balloon;
	uint64_t guest = status->memory_bytes > balloon->target_bytes
				 ? status->memory_bytes - balloon->target_bytes
				 : 0;

	if (!balloon->present)
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I,s:o}", "actual_bytes",
			 commands_number(balloon->actual_bytes), "target_bytes",
			 commands_number(balloon->target_bytes), "guest_bytes",
			 commands_number(guest), "reported_bytes",
			 commands_number(balloon->reported_bytes), "stats", balloon_stats(balloon));
}

static json_t *net_object(const struct machine_net_status *net)
{
	char mac[sizeof("00:00:00:00:00:00")];

	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", net->mac[0], net->mac[1],
		 net->mac[2], net->mac[3], net->mac[4], net->mac[5]);
	return json_pack(
		"{s:s,s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:I}", "backend", net->backend, "mac", mac,
		"link_up", net->link_up, "rx_frames", commands_number(net->rx_frames), "rx_bytes",
		commands_number(net->rx_bytes), "rx_dropped", commands_number(net->rx_dropped),
		"tx_frames", commands_number(net->tx_frames), "tx_bytes",
		commands_number(net->tx_bytes), "tx_dropped", commands_number(net->tx_dropped));
}

static json_t *net_list(const struct machine_status *status)
{
	json_t *list = json_array();

	for (size_t i = 0; i < status->net_count; i++)
		json_array_append_new(list, net_object(&status->nets[i]));
	return list;
}

static int run_status(const struct control_host *host, const struct control_request *request,
		      json_t **result, struct error *err)
{
	struct machine_status status;
	struct swap_status swap;

	(void)request;
	machine_get_status(host->machine, &status);
	swap_get_status(machine_swap(host->machine), &swap);
	return commands_give(
		json_pack("{s:s,s:i,s:s,s:o,s:b,s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:s?,s:o}",
			  "name", host->name, "pid", (int)getpid(), "state",
			  machine_state_name(status.state), "reason",
			  control_json_string(status.reason), "panicked", status.panicked, "vcpus",
			  (int)status.vcpus, "memory_bytes", commands_number(status.memory_bytes),
			  "memory_allocated_bytes", commands_number(status.memory_allocated_bytes),
			  "uptime_ns", commands_number(status.uptime_ns), "cpu_time_ns",
			  commands_number(machine_cpu_time_ns(host->machine)), "resets",
			  commands_number(status.resets), "first_run_ns",
			  commands_number(status.first_run_ns), "balloon", balloon_object(&status),
			  "nets", net_list(&status), "swap",
			  commands_swap_summary(&swap, host->automation), "metrics", host->metrics,
			  "sandbox", sandbox_status()),
		result, err);
}

/* The answer of commands that change the machine's state. */
static int give_state(const struct control_host *host, json_t **result, struct error *err)
{
	struct machine_status status;

	machine_get_status(host->machine, &status);
	return commands_give(json_pack("{s:s}", "state", machine_state_name(status.state)), result,
			     err);
}

static int run_balloon(const struct control_host *host, const struct control_request *request,
		       json_t **result, struct error *err)
{
	struct machine_status status;
	uint64_t bytes;

	if (request->argument_count) {
		int failure = size_parse(request->arguments[0], &bytes);

		if (failure)
			return error_say(err, ERANGE,
					 "balloon %.40s: no size; write for example 256M",
					 request->arguments[0]);
		failure = machine_set_balloon(host->machine, bytes, err);
		if (failure)
			return failure;
	}
	machine_get_status(host->machine, &status);
	if (!status.balloon.present)
		return error_say(err, ENODEV, "this machine has no balloon");
	return commands_give(balloon_object(&status), result, err);
}

static int run_pause(const struct control_host *host, const struct control_request *request,
		     json_t **result, struct error *err)
{
	int failure = machine_pause(host->machine, err);

	(void)request;
	return failure ? failure : give_state(host, result, err);
}

static int run_resume(const struct control_host *host, const struct control_request *request,
		      json_t **result, struct error *err)
{
	int failure = machine_resume(host->machine, err);

	(void)request;
	return failure ? failure : give_state(host, result, err);
}

static int run_powerdown(const struct control_host *host, const struct control_request *request,
			 json_t **result, struct error *err)
{
	int failure = machine_powerdown(host->machine, err);

	(void)request;
	return failure ? failure : give_state(host, result, err);
}

static int run_reset(const struct control_host *host, const struct control_request *request,
		     json_t **result, struct error *err)
{
	int failure = machine_reset(host->machine, err);

	(void)request;
	return failure ? failure : give_state(host, result, err);
}

static int run_quit(const struct control_host *host, const struct control_request *request,
		    json_t **result, struct error *err)
{
	(void)request;
	return give_state(host, result, err);
}

static int parse_sequence(const char *text, uint64_t last, uint64_t *sequence, struct error *err)
{
	char *end;

	errno = 0;
	*sequence = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || *sequence > last)
		return error_say(err, ERANGE,
				 "events %.40s: not the sequence of an event so far; the last is "
				 "%" PRIu64,
				 text, last);
	return 0;
}

int commands_parse_events(const struct control_host *host, const struct control_request *request,
			  uint64_t *since, json_t **subscribed, struct error *err)
{
	uint64_t last = events_last(host->events);
	struct machine_status status;
	struct swap_status swap;
	int result = 0;

	if (!host->events)
		return error_say(err, ENOTSUP, "this machine tells no events");
	if (request->argument_count)
		result = parse_sequence(request->arguments[0], last, since, err);
	else
		*since = last;
	if (result)
		return result;
	machine_get_status(host->machine, &status);
	swap_get_status(machine_swap(host->machine), &swap);
	*subscribed = json_pack("{s:s,s:s,s:o,s:b,s:s}", "name", host->name, "state",
				machine_state_name(status.state), "reason",
				control_json_string(status.reason), "panicked", status.panicked,
				"swap", swap_state_name(swap.state));
	return 0;
}

static int run_help(const struct control_host *host, const struct control_request *request,
		    json_t **result, struct error *err)
{
	json_t *list = json_array();

	(void)host;
	(void)request;
	for (size_t i = 0; i < command_count; i++) {
		if (json_array_append_new(list,
					  json_pack("{s:s,s:s,s:s,s:s}", "name", commands[i].name,
						    "choices",
						    commands[i].choices ? commands[i].choices : "",
						    "arguments", commands_arguments(&commands[i]),
						    "help", commands[i].help))) {
			json_decref(list);
			return error_errno(err, ENOMEM, "answer");
		}
	}
	return commands_give(json_pack("{s:o}", "commands", list), result, err);
}

const struct command commands[] = {
	{.name = "status",
	 .help = "the machine, its balloon and its swap at a glance",
	 .run = run_status},
	{.name = "history",
	 .help = "memory, faults and swap operations since the start",
	 .run = commands_run_history},
	{.name = "swap enable",
	 .help = "stage guest memory: what is touched comes back, the rest is cold",
	 .operation = SWAP_OP_ENABLE},
	{.name = "swap trim",
	 .help = "drop staged pages that are zero or unchanged since they were stored",
	 .operation = SWAP_OP_TRIM},
	{.name = "swap out",
	 .help = "write what stayed cold to the store and free the memory",
	 .operation = SWAP_OP_OUT},
	{.name = "swap in", .help = "bring everything back into memory", .operation = SWAP_OP_IN},
	{.name = "swap in --working-set",
	 .help = "bring back what was touched first after recent wake-ups",
	 .operation = SWAP_OP_WORKING_SET},
	{.name = "swap disable",
	 .help = "bring everything back and give the store's space back",
	 .operation = SWAP_OP_DISABLE},
	{.name = "swap cancel",
	 .help = "stop the running operation where it is",
	 .run = commands_run_swap_cancel},
	{.name = "swap status",
	 .help = "pages, store, faults and the last operations",
	 .run = commands_run_swap_status},
	{.name = "swap auto",
	 .arguments = "[POLICY]",
	 .help = "what the automatic policy does; or off, on, idle=SECONDS, pressure",
	 .arguments_max = 1,
	 .run = commands_run_swap_auto,
	 .choices = "on off pressure"},
	{.name = "memory-map",
	 .arguments = "[CELLS]",
	 .help = "where guest memory is, in so many ranges of equal size",
	 .arguments_max = 1,
	 .run = commands_run_memory_map},
	{.name = "dump-memory",
	 .arguments = "FILE",
	 .help = "write guest memory to a new file, leaving it where it is",
	 .arguments_min = 1,
	 .arguments_max = 1,
	 .operation = SWAP_OP_DUMP,
	 .takes_file = true},
	{.name = "checksum-memory",
	 .help = "SHA-256 of guest memory, leaving it where it is",
	 .operation = SWAP_OP_CHECKSUM},
	{.name = "balloon",
	 .arguments = "[SIZE]",
	 .help = "show the balloon, or leave the guest SIZE of its memory",
	 .arguments_max = 1,
	 .run = run_balloon,
	 .changes = true},
	{.name = "pause", .help = "stop the virtual CPUs", .run = run_pause, .changes = true},
	{.name = "resume", .help = "continue the virtual CPUs", .run = run_resume, .changes = true},
	{.name = "resume --prefetch",
	 .help = "bring the working set back if it is swapped out, then resume",
	 .operation = SWAP_OP_WORKING_SET,
	 .resumes = true},
	{.name = "powerdown", .help = "press the power button", .run = run_powerdown},
	{.name = "reset", .help = "start the guest anew", .run = run_reset, .changes = true},
	{.name = "quit", .help = "end the machine at once", .run = run_quit, .quits = true},
	{.name = "events",
	 .arguments = "[SINCE]",
	 .help = "what happens, as it happens, until it is interrupted",
	 .arguments_max = 1,
	 .streams = true},
	{.name = "help", .help = "this list", .run = run_help},
};
const size_t command_count = ARRAY_SIZE(commands);

const char *commands_arguments(const struct command *command)
{
	return command->arguments ? command->arguments : "";
}

const struct command *commands_find(const char *name)
{
	for (size_t i = 0; i < command_count; i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

const char *commands_operation_key(enum swap_operation operation)
{
	static const char *const keys[SWAP_OP_COUNT] = {
		[SWAP_OP_NONE] = "none",
		[SWAP_OP_ENABLE] = "enable",
		[SWAP_OP_TRIM] = "trim",
		[SWAP_OP_OUT] = "out",
		[SWAP_OP_IN] = "in",
		[SWAP_OP_WORKING_SET] = "working_set",
		[SWAP_OP_DISABLE] = "disable",
		[SWAP_OP_DUMP] = "dump_memory",
		[SWAP_OP_CHECKSUM] = "checksum_memory",
	};

	return keys[operation];
}

const char *commands_operation_command(enum swap_operation operation)
{
	for (size_t i = 0; i < command_count; i++) {
		if (operation != SWAP_OP_NONE && commands[i].operation == operation &&
		    !commands[i].resumes)
			return commands[i].name;
	}
	return "none";
}

/* How many of @words spell @name; 0 if they do not. */
static size_t spelled_by(const char *name, const char *const *words, size_t count)
{
	size_t used = 0;

	while (used < count) {
		size_t length = strlen(words[used]);

		if (!length || strncmp(name, words[used], length) != 0)
			return 0;
		name += length;
		used++;
		if (!*name)
			return used;
		if (*name++ != ' ')
			return 0;
	}
	return 0;
}

const struct command *commands_match(const char *const *words, size_t count, size_t *used)
{
	const struct command *best = NULL;
	size_t best_used = 0;

	for (size_t i = 0; i < command_count; i++) {
		size_t spelled = spelled_by(commands[i].name, words, count);

		if (spelled > best_used) {
			best = &commands[i];
			best_used = spelled;
		}
	}
	if (best)
		*used = best_used;
	return best;
}
