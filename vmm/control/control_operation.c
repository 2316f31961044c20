#include "vmm/control/control_operation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control/events.h"
#include "vmm/control/swap_auto.h"
#include "vmm/machine/machine.h"

/* What runs is named as it is typed, whoever started it. */
static int refuse_if_busy(const struct control_operation *operation,
			  const struct swap_status *status, struct error *err)
{
	/* Its end is told before the next one starts, even if the worker is done already. */
	if (operation->command)
		return error_say(err, EBUSY, "`%s` is running; `swap cancel` stops it",
				 operation->command->name);
	if (status->current.running)
		return error_say(err, EBUSY,
				 "`%s` is running, started by the automatic policy; `swap cancel` "
				 "stops it",
				 commands_operation_command(status->current.operation));
	return 0;
}

static int check_paused(const struct control_host *host, const char *name, struct error *err)
{
	struct machine_status status;

	machine_get_status(host->machine, &status);
	if (status.state == MACHINE_PAUSED)
		return 0;
	return error_say(err, EINVAL, "%s: the machine is %s, not paused", name,
			 machine_state_name(status.state));
}

static uint64_t count_resets(const struct control_host *host)
{
	struct machine_status status;

	machine_get_status(host->machine, &status);
	return status.resets;
}

static bool has_working_set(const struct swap_status *status)
{
	return status->working_set_pages && status->pages_swapped &&
	       (status->state == SWAP_OUT || status->state == SWAP_STAGED);
}

/* The answer of `resume --prefetch`. Takes the reference to @prefetch. */
static int resume(const struct control_host *host, json_t *prefetch, json_t **answer,
		  struct error *err)
{
	struct machine_status status;
	int result = 0;

	machine_get_status(host->machine, &status);
	/* Another client may have resumed it meanwhile. */
	if (status.state != MACHINE_RUNNING)
		result = machine_resume(host->machine, err);
	events_look(host->events);
	if (result) {
		json_decref(prefetch);
		return result;
	}
	machine_get_status(host->machine, &status);
	*answer = json_pack("{s:s,s:o}", "state", machine_state_name(status.state), "prefetch",
			    prefetch);
	return 0;
}

/* The client's descriptor may be anything: 0 if memory can be written there. */
static int check_file(const struct control_request *request, struct error *err)
{
	struct stat info;
	int flags;

	if (request->file <= 0)
		return error_say(
			err, ERANGE,
			"%s: the file itself has to come with the request (SCM_RIGHTS), as "
			"from `ebb ctl` and `ebb console`",
			request->command);
	flags = fcntl(request->file, F_GETFL);
	if (fstat(request->file, &info) || flags < 0)
		return error_errno(err, errno, "%s: the file", request->command);
	if (!S_ISREG(info.st_mode) || info.st_size || (flags & O_ACCMODE) == O_RDONLY)
		return error_say(err, ERANGE,
				 "%s: what came with the request is no empty, writable file",
				 request->command);
	return 0;
}

static void let_file_go(struct control_operation *operation)
{
	if (operation->file)
		close(operation->file);
	free(operation->path);
	operation->file = 0;
	operation->path = NULL;
}

static int start_dump(struct control_operation *operation, struct swap *swap,
		      const struct control_request *request, struct error *err)
{
	int result = check_file(request, err);
	int fd;

	if (result)
		return result;
	operation->file = fcntl(request->file, F_DUPFD_CLOEXEC, 3);
	fd = fcntl(request->file, F_DUPFD_CLOEXEC, 3);
	operation->path = strdup(request->arguments[0]);
	if (operation->file > 0 && fd > 0 && operation->path) {
		result = swap_start_dump(swap, fd, err);
	} else {
		if (fd > 0)
			close(fd);
		if (operation->file < 0)
			operation->file = 0;
		result = error_errno(err, ENOMEM, "%s", request->command);
	}
	if (result)
		let_file_go(operation);
	return result;
}

/* Half a dump is none. */
static void discard_file(struct control_operation *operation)
{
	if (operation->file && ftruncate(operation->file, 0))
		log_warning("%s: an incomplete dump cannot be emptied: %s", operation->path,
			    strerrordesc_np(errno));
	let_file_go(operation);
}

/* Reading memory does not interfere with what the policy does; the rest is the user's word. */
static void tell_automation(struct swap_auto *automation, const struct command *command)
{
	if (command->resumes)
		swap_auto_user_wakes(automation);
	else if (command->operation != SWAP_OP_DUMP && command->operation != SWAP_OP_CHECKSUM)
		swap_auto_user_acts(automation);
}

int control_operation_start(struct control_operation *operation, const struct control_host *host,
			    const struct command *command, const struct control_request *request,
			    json_t **answer, struct error *err)
{
	struct swap *swap = machine_swap(host->machine);
	struct swap_status status;
	int result;

	swap_get_status(swap, &status);
	if (command->resumes) {
		result = check_paused(host, command->name, err);
		if (result)
			return result;
	}
	result = refuse_if_busy(operation, &status, err);
	if (result)
		return result;
	if (command->resumes && !has_working_set(&status)) {
		result = resume(host, json_null(), answer, err);
		if (!result)
			swap_auto_user_wakes(host->automation);
		return result ? result : 1;
	}
	events_look_at_swap(host->events);
	if (command->operation == SWAP_OP_DUMP)
		result = start_dump(operation, swap, request, err);
	else
		result = swap_start(swap, command->operation, err);
	if (result)
		return result;
	operation->command = command;
	operation->resets = count_resets(host);
	events_swap_started(host->events, command->operation, "user");
	tell_automation(host->automation, command);
	rate_start(&operation->rate, clock_monotonic_ns());
	return 0;
}

json_t *control_operation_progress(struct control_operation *operation,
				   const struct swap_status *status)
{
	rate_note(&operation->rate, clock_monotonic_ns(),
		  status->current.pages_done * status->page_size);
	return commands_progress(&status->current, status->page_size, &operation->rate);
}

/* What else the one who typed the command should know of its failure. */
static const char *consequence_of(const struct command *command)
{
	if (command->operation == SWAP_OP_DUMP)
		return "; the incomplete file was removed";
	if (command->resumes)
		return "; the machine is still paused, `resume` continues it";
	return "";
}

static enum control_code explain_failure(const struct command *command,
					 const struct swap_operation_report *report, bool by_reset,
					 struct error *err)
{
	enum control_code code = control_code_from_errno(report->result);
	const char *consequence = consequence_of(command);

	if (report->cancelled) {
		error_say(err, ECANCELED, "%s was cancelled %safter %llu of %llu pages%s",
			  command->name, by_reset ? "by the machine's reset " : "",
			  (unsigned long long)report->pages_done,
			  (unsigned long long)report->pages_total, consequence);
		return CONTROL_CANCELLED;
	}
	if (report->error.text[0])
		error_say(err, -report->result, "%s%s%.380s%s",
			  command->resumes ? command->name : "", command->resumes ? ": " : "",
			  report->error.text, consequence);
	else
		error_errno(err, -report->result, "%s%s", command->name, consequence);
	/* The state was right when it began. */
	return code == CONTROL_WRONG_STATE ? CONTROL_FAILED : code;
}

enum control_code control_operation_finish(struct control_operation *operation,
					   const struct control_host *host,
					   const struct swap_status *status, json_t **answer,
					   struct error *err)
{
	const struct command *command = operation->command;
	const struct swap_operation_report *report = &status->last[command->operation];

	if (report->operation != command->operation)
		report = &status->current;
	operation->command = NULL;
	if (report->cancelled || report->result) {
		discard_file(operation);
		return explain_failure(command, report, operation->resets != count_resets(host),
				       err);
	}
	*answer = commands_report(report, status->page_size);
	if (command->resumes)
		return control_code_from_errno(resume(host, *answer, answer, err));
	if (*answer)
		json_object_set_new(*answer, "state", json_string(swap_state_name(status->state)));
	if (*answer && operation->path)
		json_object_set_new(*answer, "file", control_json_string(operation->path));
	let_file_go(operation);
	return CONTROL_OK;
}

void control_operation_abandon(struct control_operation *operation)
{
	discard_file(operation);
	*operation = (struct control_operation){0};
}
