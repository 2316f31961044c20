#include "vmm/commands.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"
#include "vmm/machine.h"

/* Jansson's integers are signed; a count never gets there, a byte count might by a bug. */
static json_int_t number(uint64_t value)
{
	return value > INT64_MAX ? INT64_MAX : (json_int_t)value;
}

/* Stores a new object; a NULL is what a json_pack() out of memory returned. */
static int give(json_t *json, json_t **result, struct error *err)
{
	if (!json)
		return error_errno(err, ENOMEM, "answer");
	*result = json;
	return 0;
}

json_t *commands_report(const struct swap_operation_report *report, uint64_t page_size)
{
	return json_pack("{s:s,s:b,s:b,s:i,s:o,s:I,s:I,s:I,s:I,s:I,s:I}", "operation",
			 swap_operation_name(report->operation), "running", report->running,
			 "cancelled", report->cancelled, "result", report->result, "message",
			 control_json_string(report->error.text), "pages_done",
			 number(report->pages_done), "pages_total", number(report->pages_total),
			 "pages_moved", number(report->pages_moved), "page_size_bytes",
			 number(page_size), "duration_ns", number(report->duration_ns), "zap_ns",
			 number(report->zap_ns));
}

json_t *commands_progress(const struct swap_operation_report *report)
{
	return json_pack("{s:s,s:I,s:I,s:I,s:I}", "operation",
			 swap_operation_name(report->operation), "pages_done",
			 number(report->pages_done), "pages_total", number(report->pages_total),
			 "pages_moved", number(report->pages_moved), "duration_ns",
			 number(report->duration_ns));
}

static json_t *balloon_stats(const struct machine_balloon_status *balloon)
{
	if (!balloon->stats_valid)
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "free_bytes",
			 number(balloon->stat_free), "total_bytes", number(balloon->stat_total),
			 "available_bytes", number(balloon->stat_available), "swap_in_bytes",
			 number(balloon->stat_swap_in), "swap_out_bytes",
			 number(balloon->stat_swap_out), "disk_caches_bytes",
			 number(balloon->stat_disk_caches), "major_faults",
			 number(balloon->stat_major_faults), "minor_faults",
			 number(balloon->stat_minor_faults));
}

static json_t *balloon_object(const struct machine_status *status)
{
	const struct machine_balloon_status *balloon = &status->balloon;
	uint64_t guest = status->memory_bytes > balloon->target_bytes
				 ? status->memory_bytes - balloon->target_bytes
				 : 0;

	if (!balloon->present)
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I,s:o}", "actual_bytes", number(balloon->actual_bytes),
			 "target_bytes", number(balloon->target_bytes), "guest_bytes",
			 number(guest), "reported_bytes", number(balloon->reported_bytes), "stats",
			 balloon_stats(balloon));
}

static json_t *swap_summary(const struct swap_status *swap)
{
	return json_pack("{s:b,s:s,s:s?,s:I,s:I,s:I,s:I}", "available", swap->available, "state",
			 swap_state_name(swap->state), "operation",
			 swap->current.running ? swap_operation_name(swap->current.operation)
					       : NULL,
			 "pages_swapped", number(swap->pages_swapped), "pages_staged",
			 number(swap->pages_staged), "page_size_bytes", number(swap->page_size),
			 "store_disk_bytes", number(swap->store_disk_bytes));
}

static int run_status(const struct control_host *host, const struct control_request *request,
		      json_t **result, struct error *err)
{
	struct machine_status status;
	struct swap_status swap;

	(void)request;
	machine_get_status(host->machine, &status);
	swap_get_status(machine_swap(host->machine), &swap);
	return give(json_pack("{s:s,s:i,s:s,s:o,s:i,s:I,s:I,s:I,s:I,s:I,s:o,s:o}", "name",
			      host->name, "pid", (int)getpid(), "state",
			      machine_state_name(status.state), "reason",
			      control_json_string(status.reason), "vcpus", (int)status.vcpus,
			      "memory_bytes", number(status.memory_bytes), "memory_allocated_bytes",
			      number(status.memory_allocated_bytes), "uptime_ns",
			      number(status.uptime_ns), "resets", number(status.resets),
			      "first_run_ns", number(status.first_run_ns), "balloon",
			      balloon_object(&status), "swap", swap_summary(&swap)),
		    result, err);
}

static json_t *counters_object(const struct swap_counters *counters)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "faults_zeroed",
			 number(counters->faults_zeroed), "faults_continued",
			 number(counters->faults_continued), "faults_copied",
			 number(counters->faults_copied), "faults_redundant",
			 number(counters->faults_redundant), "faults_retried",
			 number(counters->faults_retried), "writes_cancelled",
			 number(counters->writes_cancelled), "removed", number(counters->removed),
			 "staged", number(counters->staged), "stored", number(counters->stored),
			 "swapped_in", number(counters->swapped_in), "trimmed_zero",
			 number(counters->trimmed_zero), "trimmed_clean",
			 number(counters->trimmed_clean));
}

static json_t *last_object(const struct swap_status *swap)
{
	json_t *last = json_object();

	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++) {
		const struct swap_operation_report *report = &swap->last[i];
		json_t *entry = report->operation == SWAP_OP_NONE
					? json_null()
					: commands_report(report, swap->page_size);

		if (json_object_set_new(last, swap_operation_name((enum swap_operation)i), entry)) {
			json_decref(last);
			return NULL;
		}
	}
	return last;
}

static int run_swap_status(const struct control_host *host, const struct control_request *request,
			   json_t **result, struct error *err)
{
	struct swap_status swap;

	(void)request;
	swap_get_status(machine_swap(host->machine), &swap);
	return give(json_pack("{s:b,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:o}",
			      "available", swap.available, "state", swap_state_name(swap.state),
			      "page_size_bytes", number(swap.page_size), "pages_total",
			      number(swap.pages_total), "pages_empty", number(swap.pages_empty),
			      "pages_resident", number(swap.pages_resident), "pages_staged",
			      number(swap.pages_staged), "pages_writing",
			      number(swap.pages_writing), "pages_swapped",
			      number(swap.pages_swapped), "store_live_bytes",
			      number(swap.store_live_bytes), "store_disk_bytes",
			      number(swap.store_disk_bytes), "counters",
			      counters_object(&swap.counters), "operation",
			      swap.current.running ? commands_report(&swap.current, swap.page_size)
						   : json_null(),
			      "last", last_object(&swap)),
		    result, err);
}

static int run_swap_cancel(const struct control_host *host, const struct control_request *request,
			   json_t **result, struct error *err)
{
	struct swap *swap = machine_swap(host->machine);
	struct swap_status status;
	int failure;

	(void)request;
	swap_get_status(swap, &status);
	failure = swap_cancel(swap, err);
	if (failure)
		return failure;
	return give(json_pack("{s:s}", "operation", swap_operation_name(status.current.operation)),
		    result, err);
}

/* The answer of commands that change the machine's state. */
static int give_state(const struct control_host *host, json_t **result, struct error *err)
{
	struct machine_status status;

	machine_get_status(host->machine, &status);
	return give(json_pack("{s:s}", "state", machine_state_name(status.state)), result, err);
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
	return give(balloon_object(&status), result, err);
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

static int run_help(const struct control_host *host, const struct control_request *request,
		    json_t **result, struct error *err)
{
	json_t *list = json_array();

	(void)host;
	(void)request;
	for (size_t i = 0; i < command_count; i++) {
		if (json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "name", commands[i].name,
							  "arguments", commands[i].arguments,
							  "help", commands[i].help))) {
			json_decref(list);
			return error_errno(err, ENOMEM, "answer");
		}
	}
	return give(json_pack("{s:o}", "commands", list), result, err);
}

const struct command commands[] = {
	{"status", "", "the machine, its balloon and its swap at a glance", 0, SWAP_OP_NONE,
	 run_status, false},
	{"swap enable", "", "stage guest memory: what is touched comes back, the rest is cold", 0,
	 SWAP_OP_ENABLE, NULL, false},
	{"swap trim", "", "drop staged pages that are zero or unchanged since they were stored", 0,
	 SWAP_OP_TRIM, NULL, false},
	{"swap out", "", "write what stayed cold to the swap directory and free the memory", 0,
	 SWAP_OP_OUT, NULL, false},
	{"swap in", "", "bring everything back into memory", 0, SWAP_OP_IN, NULL, false},
	{"swap disable", "", "bring everything back and give the disk space back", 0,
	 SWAP_OP_DISABLE, NULL, false},
	{"swap cancel", "", "stop the running swap operation where it is", 0, SWAP_OP_NONE,
	 run_swap_cancel, false},
	{"swap status", "", "page counts, disk space, faults and the last operations", 0,
	 SWAP_OP_NONE, run_swap_status, false},
	{"balloon", "[SIZE]", "show the balloon, or leave the guest SIZE of its memory", 1,
	 SWAP_OP_NONE, run_balloon, false},
	{"pause", "", "stop the virtual CPUs", 0, SWAP_OP_NONE, run_pause, false},
	{"resume", "", "continue the virtual CPUs", 0, SWAP_OP_NONE, run_resume, false},
	{"powerdown", "", "press the power button", 0, SWAP_OP_NONE, run_powerdown, false},
	{"reset", "", "start the guest anew", 0, SWAP_OP_NONE, run_reset, false},
	{"quit", "", "end the machine at once", 0, SWAP_OP_NONE, run_quit, true},
	{"help", "", "this list", 0, SWAP_OP_NONE, run_help, false},
};
const size_t command_count = ARRAY_SIZE(commands);

const struct command *commands_find(const char *name)
{
	for (size_t i = 0; i < command_count; i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

/* How many of @words spell @name; 0 if they do not. */
static size_t spelled_by(const char *name, const char *const *words, size_t count)
{
	size_t used = 0;

	while (used < count) {
		size_t length = strlen(words[used]);

		if (!length || strncmp(name, words[used], length))
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
