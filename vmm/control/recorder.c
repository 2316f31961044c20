#include "vmm/control/recorder.h"

#include <errno.h>
#include <stdlib.h>

#include "vmm/base/clock.h"
#include "vmm/control/history.h"
#include "vmm/machine/machine.h"

#define PERIOD_MAX_NS (10 * NS_PER_SEC)

struct recorder {
	struct machine *machine;
	struct event_source *timer;
	struct history *history;
	uint64_t period_ns;
	uint64_t
		noted_ns[SWAP_OP_COUNT]; /* the start of each operation's last run that was noted */
	/* Too large for a stack: */
	struct history_input input;
	struct swap_status swap;
	struct machine_status status;
};

static void read_input(struct recorder *recorder)
{
	struct history_input *input = &recorder->input;
	struct swap *swap = machine_swap(recorder->machine);

	machine_get_status(recorder->machine, &recorder->status);
	swap_get_status(swap, &recorder->swap);
	swap_get_latency(swap, input->latency);
	memory_states_divide(&recorder->status, &recorder->swap, input->bytes);
	input->cpu_ns = machine_cpu_time_ns(recorder->machine);
	input->now_ns = clock_monotonic_ns();
}

static void note_operation(struct recorder *recorder, const struct swap_operation_report *report)
{
	const struct history_mark mark = {
		.start_ns = report->started_ns,
		.duration_ns = report->duration_ns,
		.moved_bytes = report->pages_moved * recorder->swap.page_size,
		.operation = report->operation,
		.outcome = report->cancelled ? HISTORY_CANCELLED
			   : report->result  ? HISTORY_FAILED
					     : HISTORY_DONE,
	};

	recorder->noted_ns[report->operation] = report->started_ns;
	history_add_mark(recorder->history, &mark);
}

/* The earliest operation that has ended and was not noted; NULL: none. */
static const struct swap_operation_report *next_ended(const struct recorder *recorder)
{
	const struct swap_operation_report *earliest = NULL;

	for (int i = SWAP_OP_NONE + 1; i < SWAP_OP_COUNT; i++) {
		const struct swap_operation_report *report = &recorder->swap.last[i];

		if (report->operation != SWAP_OP_NONE &&
		    report->started_ns > recorder->noted_ns[i] &&
		    (!earliest || report->started_ns < earliest->started_ns))
			earliest = report;
	}
	return earliest;
}

void recorder_look(struct recorder *recorder)
{
	const struct swap_operation_report *ended;

	if (!recorder)
		return;
	read_input(recorder);
	while ((ended = next_ended(recorder)))
		note_operation(recorder, ended);
	history_add(recorder->history, &recorder->input);
}

/* As long as a span, which grows. */
static int plan(struct recorder *recorder)
{
	uint64_t period_ns = history_interval_ns(recorder->history);

	if (period_ns > PERIOD_MAX_NS)
		period_ns = PERIOD_MAX_NS;
	if (period_ns == recorder->period_ns)
		return 0;
	recorder->period_ns = period_ns;
	return event_source_arm(recorder->timer, period_ns, period_ns);
}

static void on_timer(void *opaque, uint32_t events)
{
	(void)events;
	recorder_look(opaque);
	plan(opaque);
}

int recorder_create(struct event_loop *loop, struct machine *machine, struct recorder **out,
		    struct error *err)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));
	int result;

	if (!recorder)
		return error_errno(err, ENOMEM, "history");
	recorder->machine = machine;
	read_input(recorder);
	recorder->history = history_create(&recorder->input);
	result = recorder->history ? 0 : -ENOMEM;
	if (!result)
		result = event_loop_add_timer(loop, on_timer, recorder, &recorder->timer);
	if (!result)
		result = plan(recorder);
	if (result) {
		recorder_destroy(recorder);
		return error_errno(err, -result, "history");
	}
	*out = recorder;
	return 0;
}

void recorder_destroy(struct recorder *recorder)
{
	if (!recorder)
		return;
	event_source_remove(recorder->timer);
	history_destroy(recorder->history);
	free(recorder);
}

const struct history *recorder_history(const struct recorder *recorder)
{
	return recorder->history;
}

const struct history_input *recorder_last(const struct recorder *recorder)
{
	return &recorder->input;
}
