#include "vmm/control/commands_internal.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/control/history.h"
#include "vmm/control/recorder.h"
#include "vmm/machine/machine.h"

#define PAGE_SIZE 4096u

/* Appends, and takes the reference to @entry; false: out of memory. */
static bool append(json_t *array, json_t *entry)
{
	return !json_array_append_new(array, entry);
}

static json_t *faults_object(const struct history_sample *sample)
{
	json_t *faults = json_object();

	for (int i = 0; i < SWAP_FAULT_KINDS; i++) {
		const struct history_faults *kind = &sample->faults[i];
		json_t *entry =
			kind->count ? json_pack("{s:I,s:I,s:I}", "count", (json_int_t)kind->count,
						"p50_ns", (json_int_t)kind->p50_ns, "p99_ns",
						(json_int_t)kind->p99_ns)
				    : NULL;

		/* Most spans have no faults of most kinds. */
		if (kind->count &&
		    json_object_set_new(faults, swap_fault_kind_name((enum swap_fault_kind)i),
					entry)) {
			json_decref(faults);
			return NULL;
		}
	}
	return faults;
}

static json_t *memory_object(const uint64_t bytes[MEMORY_STATES])
{
	json_t *memory = json_object();

	for (int i = 0; i < MEMORY_STATES; i++) {
		if (json_object_set_new(memory, memory_state_name((enum memory_state)i),
					json_integer(commands_number(bytes[i])))) {
			json_decref(memory);
			return NULL;
		}
	}
	return memory;
}

static json_t *sample_object(const struct history_sample *sample, uint64_t start_ns)
{
	uint64_t bytes[MEMORY_STATES];

	for (int i = 0; i < MEMORY_STATES; i++)
		bytes[i] = (uint64_t)sample->pages[i] * PAGE_SIZE;
	return json_pack("{s:I,s:I,s:I,s:o,s:o}", "start_ns",
			 commands_number(sample->start_ns - start_ns), "end_ns",
			 commands_number(sample->end_ns - start_ns), "cpu_ns",
			 commands_number(sample->cpu_ns), "bytes", memory_object(bytes), "faults",
			 faults_object(sample));
}

static json_t *samples_array(const struct history *history)
{
	json_t *samples = json_array();

	for (size_t i = 0; i < history_sample_count(history); i++) {
		if (!append(samples,
			    sample_object(history_sample(history, i), history_start_ns(history)))) {
			json_decref(samples);
			return NULL;
		}
	}
	return samples;
}

static json_t *mark_object(const struct history_mark *mark, uint64_t start_ns)
{
	static const char *const outcomes[] = {
		[HISTORY_DONE] = "done",
		[HISTORY_FAILED] = "failed",
		[HISTORY_CANCELLED] = "cancelled",
	};

	return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I}", "operation",
			 commands_operation_key(mark->operation), "command",
			 commands_operation_command(mark->operation), "outcome",
			 outcomes[mark->outcome], "start_ns",
			 commands_number(mark->start_ns > start_ns ? mark->start_ns - start_ns : 0),
			 "duration_ns", commands_number(mark->duration_ns), "moved_bytes",
			 commands_number(mark->moved_bytes));
}

static json_t *operations_array(const struct history *history)
{
	json_t *operations = json_array();

	for (size_t i = 0; i < history_mark_count(history); i++) {
		if (!append(operations,
			    mark_object(history_mark(history, i), history_start_ns(history)))) {
			json_decref(operations);
			return NULL;
		}
	}
	return operations;
}

int commands_run_history(const struct control_host *host, const struct control_request *request,
			 json_t **result, struct error *err)
{
	const struct history *history;
	struct machine_status status;
	uint64_t age_ns;

	(void)request;
	if (!host->recorder)
		return error_say(err, ENOTSUP, "history: this machine keeps none");
	recorder_look(host->recorder);
	history = recorder_history(host->recorder);
	machine_get_status(host->machine, &status);
	age_ns = clock_monotonic_ns() - history_start_ns(history);
	return commands_give(
		json_pack("{s:s,s:s,s:i,s:i,s:I,s:I,s:I,s:I,s:o,s:I,s:o,s:o}", "version",
			  EBB_VERSION, "name", host->name, "pid", (int)getpid(), "vcpus",
			  (int)status.vcpus, "memory_bytes", commands_number(status.memory_bytes),
			  "now_s", (json_int_t)time(NULL), "age_ns", commands_number(age_ns),
			  "interval_ns", commands_number(history_interval_ns(history)), "bytes",
			  memory_object(recorder_last(host->recorder)->bytes), "operations_dropped",
			  commands_number(history_marks_dropped(history)), "operations",
			  operations_array(history), "samples", samples_array(history)),
		result, err);
}
