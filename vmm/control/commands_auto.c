#include "vmm/control/commands_internal.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/control/swap_auto.h"

#define WORDS_MAX 160

/* What has to happen before anything else does, for people. */
static const char *waits_for(const struct swap_policy *policy, char *text)
{
	unsigned long long seconds = swap_policy_wait_ns(policy) / NS_PER_SEC;
	const struct swap_policy_config *config = &policy->config;

	switch (policy->phase) {
	case SWAP_POLICY_OFF:
		return "";
	case SWAP_POLICY_WATCHING:
		if (!config->idle_ns)
			return "pressure on the host";
		snprintf(text, WORDS_MAX, "%llu s of idleness%s", seconds,
			 config->pressure ? ", or pressure on the host" : "");
		return text;
	case SWAP_POLICY_STAGING:
	case SWAP_POLICY_TRIMMING:
	case SWAP_POLICY_WRITING:
		return "its operation to end";
	case SWAP_POLICY_SETTLING:
		return "the guest to leave what is staged alone";
	case SWAP_POLICY_ASLEEP:
		return "the guest to wake";
	case SWAP_POLICY_SUSPENDED:
		return policy->must_work ? "the guest to work, after a swap command of yours"
					 : "the guest to be idle again, after a command of yours";
	}
	return "";
}

static json_t *pressure_object(const struct pressure_reading *pressure)
{
	static const char *const levels[] = {
		[PRESSURE_UNKNOWN] = "unknown",
		[PRESSURE_LOW] = "low",
		[PRESSURE_MIDDLE] = "middle",
		[PRESSURE_HIGH] = "high",
	};

	return json_pack("{s:s,s:f,s:s}", "source", pressure_source_name(pressure->source),
			 "percent", pressure->percent, "level", levels[pressure->level]);
}

static json_t *last_action(const struct swap_auto_status *status)
{
	const struct swap_policy *policy = &status->policy;

	if (policy->operation == SWAP_OP_NONE)
		return json_null();
	return json_pack(
		"{s:s,s:s,s:I,s:b,s:i,s:o}", "operation", commands_operation_key(policy->operation),
		"cause", swap_policy_cause_name(policy->cause), "ago_ns",
		commands_number(status->now_ns - policy->operation_ns), "running", status->running,
		"result", status->result, "message", control_json_string(status->error.text));
}

const char *commands_auto_phase(struct swap_auto *automation)
{
	struct swap_auto_status status;

	if (!automation)
		return NULL;
	swap_auto_get_status(automation, &status);
	return swap_policy_phase_name(status.policy.phase);
}

json_t *commands_auto_object(struct swap_auto *automation)
{
	struct swap_auto_status status;
	const struct swap_policy *policy = &status.policy;
	char policy_text[SWAP_POLICY_TEXT_MAX];
	char words[WORDS_MAX];
	uint64_t remaining;

	if (!automation)
		return json_null();
	swap_auto_get_status(automation, &status);
	remaining = swap_policy_remaining_ns(policy, status.now_ns);
	return json_pack("{s:s,s:s,s:s,s:o,s:i,s:I,s:f,s:o,s:o}", "policy",
			 swap_policy_format(&policy->config, policy_text), "phase",
			 swap_policy_phase_name(policy->phase), "waits_for",
			 waits_for(policy, words), "remaining_ns",
			 remaining == UINT64_MAX ? json_null()
						 : json_integer(commands_number(remaining)),
			 "backoff", (int)policy->backoff, "cycles", commands_number(policy->cycles),
			 "cpu_share", status.cpu_share, "pressure",
			 pressure_object(&status.pressure), "last", last_action(&status));
}

int commands_run_swap_auto(const struct control_host *host, const struct control_request *request,
			   json_t **result, struct error *err)
{
	int failure = 0;

	if (!host->automation)
		return error_say(err, ENOTSUP, "swap auto: this machine has no automatic swap");
	if (request->argument_count)
		failure = swap_auto_set(host->automation, request->arguments[0], err);
	return failure ? failure
		       : commands_give(commands_auto_object(host->automation), result, err);
}
