#include "vmm/control/swap_auto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/log.h"
#include "vmm/control/events.h"
#include "vmm/machine/machine.h"

#define LOOK_NS     NS_PER_SEC
#define LOOK_NS_MIN (20 * NS_PER_MS)

struct swap_auto {
	struct machine *machine;
	struct events *events;
	struct event_source *timer;
	struct swap_policy policy;
	struct swap_policy_config resting; /* what "on" brings back */
	bool running;                      /* an operation that was started here */
	int result;                        /* of the last of these */
	struct error error;
	uint64_t last_ns;
	uint64_t last_cpu_ns;
	double cpu_share;
};

static void note_share(struct swap_auto *automation, const struct swap_policy_input *input)
{
	uint64_t passed = input->now_ns - automation->last_ns;

	/* A look right after another, at an operation's end, says nothing of the guest. */
	if (automation->last_ns && passed < LOOK_NS / 2)
		return;
	if (automation->last_ns && input->cpu_ns >= automation->last_cpu_ns)
		automation->cpu_share =
			(double)(input->cpu_ns - automation->last_cpu_ns) / (double)passed;
	automation->last_ns = input->now_ns;
	automation->last_cpu_ns = input->cpu_ns;
}

static void note_end(struct swap_auto *automation, const struct swap_status *status)
{
	const struct swap_operation_report *report = &status->last[automation->policy.operation];

	if (!automation->running || status->current.running)
		return;
	automation->running = false;
	automation->result = report->result;
	automation->error = report->error;
	if (report->result && !report->cancelled)
		log_warning("automatic swap: %s", report->error.text);
}

static void start(struct swap_auto *automation)
{
	struct swap_policy *policy = &automation->policy;
	int result;

	events_look_at_swap(automation->events);
	result = swap_start(machine_swap(automation->machine), policy->operation,
			    &automation->error);
	automation->result = result;
	automation->running = !result;
	if (!result) {
		automation->error = (struct error){{0}};
		events_swap_started(automation->events, policy->operation, "auto");
		return;
	}
	log_warning("automatic swap: %s", automation->error.text);
	swap_policy_refused(policy, clock_monotonic_ns());
}

static void look(struct swap_auto *automation)
{
	struct swap_policy *policy = &automation->policy;
	struct swap *swap = machine_swap(automation->machine);
	struct pressure_reading pressure = {0};
	struct swap_policy_input input;
	struct swap_status status;

	if (machine_is_stuck(automation->machine))
		return; /* no vCPU runs, and nothing can be swapped */
	swap_get_status(swap, &status);
	note_end(automation, &status);
	events_look_at_swap(automation->events);
	if (policy->config.pressure)
		pressure_read(&pressure);
	input = (struct swap_policy_input){
		.now_ns = clock_monotonic_ns(),
		.cpu_ns = machine_cpu_time_ns(automation->machine),
		.touches = status.counters.faults_zeroed + status.counters.faults_continued +
			   status.counters.faults_copied,
		.pages_total = status.pages_total,
		.pressure = pressure.level,
		.state = status.state,
		.busy = status.current.running,
		.result = status.last[policy->operation].result,
	};
	note_share(automation, &input);
	switch (swap_policy_step(policy, &input)) {
	case SWAP_POLICY_WAIT:
		break;
	case SWAP_POLICY_START:
		start(automation);
		break;
	case SWAP_POLICY_CANCEL:
		swap_cancel(swap, NULL);
		break;
	}
	events_look_at_policy(automation->events, policy);
}

/* The next look: when something may be due, and within a second. */
static int plan_look(struct swap_auto *automation)
{
	const struct swap_policy *policy = &automation->policy;
	uint64_t delay_ns = swap_policy_remaining_ns(policy, clock_monotonic_ns());

	if (!swap_policy_is_on(&policy->config))
		return event_source_arm(automation->timer, 0, 0);
	/* What is due and did not happen waits for something else. */
	if (!delay_ns || delay_ns > LOOK_NS)
		delay_ns = LOOK_NS;
	if (delay_ns < LOOK_NS_MIN)
		delay_ns = LOOK_NS_MIN;
	return event_source_arm(automation->timer, delay_ns, LOOK_NS);
}

static void on_timer(void *opaque, uint32_t events)
{
	(void)events;
	look(opaque);
	plan_look(opaque);
}

static int set(struct swap_auto *automation, const struct swap_policy_config *config)
{
	if (swap_policy_is_on(config))
		automation->resting = *config;
	swap_policy_set(&automation->policy, config, clock_monotonic_ns());
	automation->last_ns = 0;
	if (swap_policy_is_on(config))
		look(automation); /* learns what is compared with later */
	events_look_at_policy(automation->events, &automation->policy);
	return plan_look(automation);
}

int swap_auto_create(struct event_loop *loop, struct machine *machine,
		     const struct swap_policy_config *config, struct swap_auto **out,
		     struct error *err)
{
	struct swap_auto *automation = calloc(1, sizeof(*automation));
	int result;

	if (!automation)
		return error_errno(err, ENOMEM, "automatic swap");
	automation->machine = machine;
	result = event_loop_add_timer(loop, on_timer, automation, &automation->timer);
	if (!result)
		result = set(automation, config);
	if (result) {
		swap_auto_destroy(automation);
		return error_errno(err, -result, "automatic swap: set a timer");
	}
	*out = automation;
	return 0;
}

void swap_auto_destroy(struct swap_auto *automation)
{
	if (!automation)
		return;
	event_source_remove(automation->timer);
	free(automation);
}

int swap_auto_set(struct swap_auto *automation, const char *text, struct error *err)
{
	struct swap_policy_config config = automation->resting;
	struct swap_status status;
	struct error why;
	int result;

	if (!strcmp(text, "on")) {
		if (!swap_policy_is_on(&config))
			return error_say(err, ERANGE,
					 "swap auto on: no policy was set before; give one, for "
					 "example `swap auto idle=60`");
	} else if (swap_policy_parse(text, &config, &why)) {
		return error_say(err, ERANGE, "swap auto: %s; or on", why.text);
	}
	swap_get_status(machine_swap(automation->machine), &status);
	if (swap_policy_is_on(&config) && !status.available)
		return error_say(err, ENOTSUP,
				 "swap auto: there is no place for the store; start the machine "
				 "with --swap-dir PATH, or --swap-pool SIZE");
	result = set(automation, &config);
	if (result)
		return error_errno(err, -result, "swap auto: set a timer");
	return 0;
}

void swap_auto_set_events(struct swap_auto *automation, struct events *events)
{
	automation->events = events;
	events_look_at_policy(events, &automation->policy);
}

void swap_auto_user_acts(struct swap_auto *automation)
{
	if (!automation)
		return;
	swap_policy_suspend(&automation->policy, clock_monotonic_ns());
	events_look_at_policy(automation->events, &automation->policy);
}

void swap_auto_user_wakes(struct swap_auto *automation)
{
	if (!automation)
		return;
	swap_policy_wake(&automation->policy, clock_monotonic_ns());
	events_look_at_policy(automation->events, &automation->policy);
}

void swap_auto_operation_done(struct swap_auto *automation)
{
	/* The next step need not wait for the timer. */
	if (automation && (automation->running || swap_policy_is_on(&automation->policy.config)))
		look(automation);
}

bool swap_auto_is_running(const struct swap_auto *automation)
{
	return automation && automation->running;
}

void swap_auto_get_status(struct swap_auto *automation, struct swap_auto_status *status)
{
	*status = (struct swap_auto_status){
		.policy = automation->policy,
		.now_ns = clock_monotonic_ns(),
		.cpu_share = automation->cpu_share,
		.running = automation->running,
		.result = automation->result,
		.error = automation->error,
	};
	pressure_read(&status->pressure);
}
