#include "vmm/client/swap_all.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/client/fleet.h"
#include "vmm/client/render.h"
#include "vmm/client/render_internal.h"
#include "vmm/control/commands_internal.h"
#include "vmm/options/help.h"

/* What has been asked of a machine. */
enum step {
	STEP_STATUS, /* the first question, whatever the command */
	STEP_STAGE,  /* `swap enable`, before `swap out` */
	STEP_COMMAND,
};

struct target {
	enum step step;
	uint64_t duration_ns; /* of all operations so far */
};

struct swap_all {
	struct swap_all_options options;
	char command[16]; /* "swap out" */
	struct fleet_name *names;
	struct target *targets;
	size_t count;
	uint64_t start_ns;

	size_t absent; /* of --all: sockets of machines that were killed */
	uint64_t done, failed;
	/* Sums over what was done; of `status` the first five are of memory. */
	uint64_t bytes, written_bytes;
	uint64_t memory_bytes, allocated_bytes, staged_bytes, swapped_bytes, pool_bytes, disk_bytes;
};

/* Prints @outcome, a line for one machine, and drops it. NULL: out of memory. */
static void tell(struct swap_all *all, const char *name, json_t *outcome)
{
	if (!outcome)
		fprintf(stderr, "ebb swap: %s: out of memory\n", name);
	else if (!all->options.json)
		render_swap_all(stdout, outcome);
	else if (!json_dumpf(outcome, stdout, JSON_COMPACT))
		putchar('\n');
	fflush(stdout);
	json_decref(outcome);
}

static const char *code_of(const struct fleet_answer *answer)
{
	switch (answer->outcome) {
	case FLEET_ABSENT:
		return "absent";
	case FLEET_SILENT:
		return "silent";
	case FLEET_ENDED:
		return "ended";
	case FLEET_SKIPPED:
		return "interrupted";
	default:
		return control_code_name(answer->code);
	}
}

static void tell_failure(struct swap_all *all, size_t index, const struct fleet_answer *answer)
{
	const char *name = all->names[index].text;

	all->failed++;
	tell(all, name,
	     json_pack("{s:s,s:i,s:s,s:b,s:b,s:n,s:{s:s,s:o}}", "name", name, "pid",
		       (int)answer->pid, "command", all->options.verb, "done", 0, "skipped", 0,
		       !strcmp(all->options.verb, "status") ? "status" : "state", "error", "code",
		       code_of(answer), "message", control_json_string(answer->error.text)));
}

static uint64_t page_bytes(const json_t *object, const char *key)
{
	return render_number(object, key) * render_number(object, "page_size_bytes");
}

static void tell_done(struct swap_all *all, size_t index, const struct fleet_answer *answer)
{
	const json_t *report = answer->result;
	const char *name = all->names[index].text;
	uint64_t bytes = page_bytes(report, "pages_moved");
	uint64_t written = render_number(report, "written_bytes");

	all->done++;
	all->bytes += bytes;
	all->written_bytes += written;
	tell(all, name,
	     json_pack("{s:s,s:i,s:s,s:b,s:b,s:s,s:I,s:I,s:I,s:I,s:n}", "name", name, "pid",
		       (int)answer->pid, "command", all->options.verb, "done", 1, "skipped", 0,
		       "state", render_text(report, "state"), "pages_moved",
		       commands_number(render_number(report, "pages_moved")), "bytes",
		       commands_number(bytes), "written_bytes", commands_number(written),
		       "duration_ns", commands_number(all->targets[index].duration_ns), "error"));
}

static void tell_skipped(struct swap_all *all, size_t index, const struct fleet_answer *answer,
			 const char *state)
{
	const char *name = all->names[index].text;

	all->done++;
	tell(all, name,
	     json_pack("{s:s,s:i,s:s,s:b,s:b,s:s,s:i,s:i,s:i,s:i,s:n}", "name", name, "pid",
		       (int)answer->pid, "command", all->options.verb, "done", 1, "skipped", 1,
		       "state", state, "pages_moved", 0, "bytes", 0, "written_bytes", 0,
		       "duration_ns", 0, "error"));
}

static void tell_status(struct swap_all *all, size_t index, const struct fleet_answer *answer)
{
	const json_t *swap = json_object_get(answer->result, "swap");
	const char *name = all->names[index].text;

	all->done++;
	all->memory_bytes += render_number(answer->result, "memory_bytes");
	all->allocated_bytes += render_number(answer->result, "memory_allocated_bytes");
	all->staged_bytes += page_bytes(swap, "pages_staged");
	all->swapped_bytes += page_bytes(swap, "pages_swapped");
	all->pool_bytes += render_number(swap, "pool_bytes");
	all->disk_bytes += render_number(swap, "store_disk_bytes");
	tell(all, name,
	     json_pack("{s:s,s:i,s:s,s:b,s:b,s:o,s:n}", "name", name, "pid", (int)answer->pid,
		       "command", all->options.verb, "done", 1, "skipped", 0, "status",
		       json_deep_copy(answer->result), "error"));
}

/* From what `status` says: what comes next, or NULL: it is done, and told. */
static const char *plan(struct swap_all *all, size_t index, const struct fleet_answer *answer)
{
	const char *state = render_text(json_object_get(answer->result, "swap"), "state");
	const char *verb = all->options.verb;
	struct target *target = &all->targets[index];

	if (!strcmp(verb, "status")) {
		tell_status(all, index, answer);
		return NULL;
	}
	if (!strcmp(state, "disabled") && (!strcmp(verb, "in") || !strcmp(verb, "disable"))) {
		tell_skipped(all, index, answer, state);
		return NULL;
	}
	if (!strcmp(state, "resident") && !strcmp(verb, "in")) {
		tell_skipped(all, index, answer, state);
		return NULL;
	}
	/* What was staged on purpose has shown what is cold; all else is taken as it is. */
	target->step =
		!strcmp(verb, "out") && strcmp(state, "staged") != 0 ? STEP_STAGE : STEP_COMMAND;
	return target->step == STEP_STAGE ? "swap enable" : all->command;
}

static const char *ask(void *opaque, size_t index, const struct fleet_answer *answer)
{
	struct swap_all *all = opaque;
	struct target *target = &all->targets[index];

	if (!answer)
		return "status";
	if (answer->outcome == FLEET_ABSENT && all->options.all) {
		all->absent++;
		return NULL;
	}
	if (answer->outcome != FLEET_ANSWERED) {
		tell_failure(all, index, answer);
		return NULL;
	}
	if (target->step == STEP_STATUS)
		return plan(all, index, answer);
	target->duration_ns += render_number(answer->result, "duration_ns");
	if (target->step == STEP_STAGE) {
		target->step = STEP_COMMAND;
		return all->command;
	}
	tell_done(all, index, answer);
	return NULL;
}

static json_t *total_of(const struct swap_all *all)
{
	uint64_t duration_ns = clock_monotonic_ns() - all->start_ns;
	json_t *total =
		json_pack("{s:s,s:I,s:I,s:I,s:I}", "command", all->options.verb, "machines",
			  commands_number(all->count - all->absent), "done",
			  commands_number(all->done), "failed", commands_number(all->failed),
			  "duration_ns", commands_number(duration_ns));
	json_t *sums;

	if (!strcmp(all->options.verb, "status"))
		sums = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "memory_bytes",
				 commands_number(all->memory_bytes), "memory_allocated_bytes",
				 commands_number(all->allocated_bytes), "staged_bytes",
				 commands_number(all->staged_bytes), "swapped_bytes",
				 commands_number(all->swapped_bytes), "pool_bytes",
				 commands_number(all->pool_bytes), "store_disk_bytes",
				 commands_number(all->disk_bytes));
	else
		sums = json_pack("{s:I,s:I}", "bytes", commands_number(all->bytes), "written_bytes",
				 commands_number(all->written_bytes));
	json_object_update(total, sums);
	json_decref(sums);
	return total;
}

static void tell_total(const struct swap_all *all)
{
	json_t *total = total_of(all);

	if (all->options.json) {
		char *line = control_format_line("total", json_incref(total));

		fputs(line ? line : "", stdout);
		free(line);
	} else {
		render_swap_all_total(stdout, total);
	}
	json_decref(total);
}

/* Who is meant. */
static int name_machines(struct swap_all *all, struct error *err)
{
	if (all->options.all)
		return fleet_discover(&all->names, &all->count, err);
	all->count = all->options.name_count;
	all->names = calloc(all->count, sizeof(*all->names));
	if (!all->names)
		return error_errno(err, ENOMEM, "%zu machines", all->count);
	for (size_t i = 0; i < all->count; i++)
		snprintf(all->names[i].text, sizeof(all->names[i].text), "%s",
			 all->options.names[i]);
	return 0;
}

static int catch_interrupt(void)
{
	sigset_t interrupt;

	sigemptyset(&interrupt);
	sigaddset(&interrupt, SIGINT);
	sigprocmask(SIG_BLOCK, &interrupt, NULL);
	return signalfd(-1, &interrupt, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run_all(struct swap_all *all, struct error *err)
{
	struct fleet fleet = {
		.jobs = all->options.jobs,
		.timeout_ns = all->options.timeout_ns,
		.opaque = all,
		.ask = ask,
	};
	int result = name_machines(all, err);

	if (result)
		return result;
	all->targets = calloc(all->count + 1, sizeof(*all->targets));
	if (!all->targets)
		return error_errno(err, ENOMEM, "%zu machines", all->count);
	fleet.names = all->names;
	fleet.count = all->count;
	if (!all->options.json)
		render_swap_all_header(stdout, all->options.verb);
	fleet.interrupt_fd = catch_interrupt();
	if (fleet.interrupt_fd < 0)
		return error_errno(err, errno, "signalfd");
	result = fleet_run(&fleet, err);
	close(fleet.interrupt_fd);
	return result;
}

int swap_all_main(int argc, char **argv)
{
	struct swap_all all = {.start_ns = clock_monotonic_ns()};
	struct error error;
	int result = swap_all_options_parse(argc, argv, &all.options, &error);

	if (result) {
		fprintf(stderr, "ebb swap: %s; see `ebb help swap`\n", error.text);
		return 2;
	}
	if (all.options.help) {
		help_print(stdout, "swap");
		return 0;
	}
	snprintf(all.command, sizeof(all.command), "swap %.8s", all.options.verb);
	result = run_all(&all, &error);
	if (result)
		fprintf(stderr, "ebb swap: %s\n", error.text);
	else
		tell_total(&all);
	free(all.targets);
	free(all.names);
	return result || all.failed ? 1 : 0;
}
