#include "vmm/machine/swap_policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* So many pages, and so great a share of them, are touched by a guest that does nothing. */
#define COLD_TOUCHES 1024u
#define COLD_SHARE   32u

/* ---- words ---- */

static int parse_seconds(const char *text, size_t length, uint64_t *ns)
{
	char digits[12];
	unsigned long seconds;

	if (!length || length >= sizeof(digits) || strspn(text, "0123456789") < length)
		return -EINVAL;
	memcpy(digits, text, length);
	digits[length] = '\0';
	seconds = strtoul(digits, NULL, 10);
	if (!seconds || seconds > SWAP_POLICY_IDLE_MAX_SECONDS)
		return -EINVAL;
	*ns = seconds * NS_PER_SEC;
	return 0;
}

static int refuse_policy(const char *text, struct error *err)
{
	return error_say(err, EINVAL,
			 "\"%.80s\" is no policy: give off, or idle=SECONDS (1 to %u), pressure, "
			 "or both with a comma",
			 text, SWAP_POLICY_IDLE_MAX_SECONDS);
}

int swap_policy_parse(const char *text, struct swap_policy_config *config, struct error *err)
{
	struct swap_policy_config parsed = {0};
	const char *word = text;

	if (!strcmp(text, "off")) {
		*config = parsed;
		return 0;
	}
	for (;;) {
		size_t length = strcspn(word, ",");

		if (length > 5 && !strncmp(word, "idle=", 5)) {
			if (parse_seconds(word + 5, length - 5, &parsed.idle_ns))
				return refuse_policy(text, err);
		} else if (length == 8 && !strncmp(word, "pressure", 8)) {
			parsed.pressure = true;
		} else {
			return refuse_policy(text, err);
		}
		if (!word[length])
			break;
		word += length + 1;
	}
	*config = parsed;
	return 0;
}

char *swap_policy_format(const struct swap_policy_config *config, char *text)
{
	char idle[40] = "";

	if (config->idle_ns)
		snprintf(idle, sizeof(idle), "idle=%llu",
			 (unsigned long long)(config->idle_ns / NS_PER_SEC));
	if (!swap_policy_is_on(config))
		snprintf(text, SWAP_POLICY_TEXT_MAX, "off");
	else
		snprintf(text, SWAP_POLICY_TEXT_MAX, "%s%s%s", idle,
			 config->idle_ns && config->pressure ? "," : "",
			 config->pressure ? "pressure" : "");
	return text;
}

bool swap_policy_is_on(const struct swap_policy_config *config)
{
	return config->idle_ns || config->pressure;
}

const char *swap_policy_phase_name(enum swap_policy_phase phase)
{
	static const char *const names[] = {
		[SWAP_POLICY_OFF] = "off",           [SWAP_POLICY_WATCHING] = "watching",
		[SWAP_POLICY_STAGING] = "staging",   [SWAP_POLICY_SETTLING] = "settling",
		[SWAP_POLICY_TRIMMING] = "trimming", [SWAP_POLICY_WRITING] = "writing",
		[SWAP_POLICY_ASLEEP] = "asleep",     [SWAP_POLICY_SUSPENDED] = "suspended",
	};

	return names[phase];
}

const char *swap_policy_cause_name(enum swap_policy_cause cause)
{
	return cause == SWAP_POLICY_IDLE ? "idle" : "pressure";
}

/* ---- what has happened ---- */

/* CPU time is credited at the idle share and spent when it is used: in debt, the guest works. */
static void note_cpu(struct swap_policy *policy, const struct swap_policy_input *input)
{
	const double most = (double)SWAP_POLICY_BURST_NS;

	policy->worked = false;
	if (!policy->seen || input->cpu_ns < policy->last_cpu_ns) {
		/* The first look, or the guest was reset and starts. */
		policy->worked = policy->seen;
		policy->seen = true;
		policy->credit_ns = most;
		policy->idle_since_ns = input->now_ns;
	} else {
		policy->credit_ns +=
			(double)(input->now_ns - policy->last_ns) * SWAP_POLICY_IDLE_SHARE;
		if (policy->credit_ns > most)
			policy->credit_ns = most;
		policy->credit_ns -= (double)(input->cpu_ns - policy->last_cpu_ns);
		if (policy->credit_ns < 0.0) {
			policy->credit_ns = 0.0;
			policy->worked = true;
			policy->idle_since_ns = input->now_ns;
		}
	}
	policy->last_ns = input->now_ns;
	policy->last_cpu_ns = input->cpu_ns;
}

static void note_pressure(struct swap_policy *policy, const struct swap_policy_input *input)
{
	if (input->pressure == PRESSURE_HIGH)
		policy->pressed = true;
	else if (input->pressure != PRESSURE_MIDDLE)
		policy->pressed = false;
}

static bool touches_a_lot(struct swap_policy *policy, const struct swap_policy_input *input)
{
	uint64_t bound = input->pages_total / COLD_SHARE;

	if (input->touches < policy->touches_before)
		policy->touches_before = input->touches;
	if (bound < COLD_TOUCHES)
		bound = COLD_TOUCHES;
	return input->touches - policy->touches_before > bound;
}

/* ---- changes ---- */

static void enter(struct swap_policy *policy, enum swap_policy_phase phase, uint64_t now_ns)
{
	policy->phase = phase;
	policy->phase_since_ns = now_ns;
	policy->cancelling = false;
}

static enum swap_policy_action start(struct swap_policy *policy, enum swap_policy_phase phase,
				     enum swap_operation operation, uint64_t now_ns)
{
	enter(policy, phase, now_ns);
	policy->operation = operation;
	policy->operation_ns = now_ns;
	return SWAP_POLICY_START;
}

/* Back to watching; the guest has to be idle for the whole time again. */
static enum swap_policy_action watch_anew(struct swap_policy *policy, uint64_t now_ns)
{
	enter(policy, SWAP_POLICY_WATCHING, now_ns);
	policy->idle_since_ns = now_ns;
	return SWAP_POLICY_WAIT;
}

/* It was no good: longer the next time. */
static enum swap_policy_action back_off(struct swap_policy *policy, uint64_t now_ns)
{
	if (policy->backoff < SWAP_POLICY_BACKOFF_MAX)
		policy->backoff *= 2;
	policy->pressure_rest_until_ns = now_ns + policy->backoff * SWAP_POLICY_PRESSURE_REST_NS;
	return watch_anew(policy, now_ns);
}

/* ---- phases ---- */

uint64_t swap_policy_wait_ns(const struct swap_policy *policy)
{
	return policy->config.idle_ns * policy->backoff;
}

static enum swap_policy_action watch(struct swap_policy *policy,
				     const struct swap_policy_input *input)
{
	uint64_t idle_ns = input->now_ns - policy->idle_since_ns;

	if (input->busy)
		return SWAP_POLICY_WAIT;
	if (policy->config.idle_ns && idle_ns >= swap_policy_wait_ns(policy))
		policy->cause = SWAP_POLICY_IDLE;
	else if (policy->config.pressure && policy->pressed &&
		 input->now_ns >= policy->pressure_rest_until_ns)
		policy->cause = SWAP_POLICY_PRESSURE;
	else
		return SWAP_POLICY_WAIT;
	return start(policy, SWAP_POLICY_STAGING, SWAP_OP_ENABLE, input->now_ns);
}

static enum swap_policy_action staging(struct swap_policy *policy,
				       const struct swap_policy_input *input)
{
	if (input->busy)
		return SWAP_POLICY_WAIT;
	if (input->result)
		return back_off(policy, input->now_ns);
	if (input->state != SWAP_STAGED)
		return watch_anew(policy, input->now_ns);
	enter(policy, SWAP_POLICY_SETTLING, input->now_ns);
	policy->touches_before = input->touches;
	policy->tries = 1;
	return SWAP_POLICY_WAIT;
}

static uint64_t settle_ns(const struct swap_policy *policy)
{
	uint64_t half = policy->config.idle_ns / 2;

	if (policy->cause == SWAP_POLICY_PRESSURE)
		return SWAP_POLICY_PRESSURE_SETTLE;
	return half < SWAP_POLICY_SETTLE_MAX_NS ? half : SWAP_POLICY_SETTLE_MAX_NS;
}

/* A guest that works touches much at first: what it needs comes back, and the rest is cold. */
static enum swap_policy_action settle_again(struct swap_policy *policy,
					    const struct swap_policy_input *input)
{
	if (policy->tries == SWAP_POLICY_PRESSURE_TRIES)
		return back_off(policy, input->now_ns);
	policy->tries++;
	policy->touches_before = input->touches;
	policy->phase_since_ns = input->now_ns;
	return SWAP_POLICY_WAIT;
}

static enum swap_policy_action settling(struct swap_policy *policy,
					const struct swap_policy_input *input)
{
	bool hot = touches_a_lot(policy, input);

	if (input->state != SWAP_STAGED)
		return watch_anew(policy, input->now_ns);
	if (policy->cause == SWAP_POLICY_IDLE && (policy->worked || hot))
		return back_off(policy, input->now_ns);
	if (input->busy || input->now_ns - policy->phase_since_ns < settle_ns(policy))
		return SWAP_POLICY_WAIT;
	if (hot)
		return settle_again(policy, input);
	return start(policy, SWAP_POLICY_TRIMMING, SWAP_OP_TRIM, input->now_ns);
}

static enum swap_policy_action trimming(struct swap_policy *policy,
					const struct swap_policy_input *input)
{
	if (input->busy)
		return SWAP_POLICY_WAIT;
	if (input->result || (policy->cause == SWAP_POLICY_IDLE && policy->worked))
		return back_off(policy, input->now_ns);
	if (input->state != SWAP_STAGED)
		return watch_anew(policy, input->now_ns);
	return start(policy, SWAP_POLICY_WRITING, SWAP_OP_OUT, input->now_ns);
}

static enum swap_policy_action writing(struct swap_policy *policy,
				       const struct swap_policy_input *input)
{
	if (input->busy) {
		if (policy->cause != SWAP_POLICY_IDLE || !policy->worked || policy->cancelling)
			return SWAP_POLICY_WAIT;
		policy->cancelling = true;
		return SWAP_POLICY_CANCEL;
	}
	if (input->result)
		return back_off(policy, input->now_ns);
	enter(policy, SWAP_POLICY_ASLEEP, input->now_ns);
	policy->touches_before = input->touches;
	policy->pressure_rest_until_ns = input->now_ns + SWAP_POLICY_PRESSURE_REST_NS;
	policy->cycles++;
	return SWAP_POLICY_WAIT;
}

static enum swap_policy_action asleep(struct swap_policy *policy,
				      const struct swap_policy_input *input)
{
	uint64_t slept_ns = input->now_ns - policy->phase_since_ns;

	if (input->state == SWAP_OUT && !policy->worked && !touches_a_lot(policy, input))
		return SWAP_POLICY_WAIT;
	if (policy->cause == SWAP_POLICY_IDLE && slept_ns < policy->config.idle_ns)
		return back_off(policy, input->now_ns);
	policy->backoff = 1;
	return watch_anew(policy, input->now_ns);
}

static uint64_t rest_ns(const struct swap_policy *policy)
{
	return policy->config.idle_ns ? policy->config.idle_ns : SWAP_POLICY_REST_NS;
}

static enum swap_policy_action suspended(struct swap_policy *policy,
					 const struct swap_policy_input *input)
{
	if (policy->worked)
		policy->must_work = false;
	if (policy->must_work || input->now_ns - policy->idle_since_ns < rest_ns(policy))
		return SWAP_POLICY_WAIT;
	policy->backoff = 1;
	enter(policy, SWAP_POLICY_WATCHING, input->now_ns);
	return watch(policy, input);
}

static enum swap_policy_action rest(struct swap_policy *policy,
				    const struct swap_policy_input *input)
{
	(void)policy;
	(void)input;
	return SWAP_POLICY_WAIT;
}

enum swap_policy_action swap_policy_step(struct swap_policy *policy,
					 const struct swap_policy_input *input)
{
	static enum swap_policy_action (*const phases[])(struct swap_policy *,
							 const struct swap_policy_input *) = {
		[SWAP_POLICY_OFF] = rest,          [SWAP_POLICY_WATCHING] = watch,
		[SWAP_POLICY_STAGING] = staging,   [SWAP_POLICY_SETTLING] = settling,
		[SWAP_POLICY_TRIMMING] = trimming, [SWAP_POLICY_WRITING] = writing,
		[SWAP_POLICY_ASLEEP] = asleep,     [SWAP_POLICY_SUSPENDED] = suspended,
	};

	note_cpu(policy, input);
	note_pressure(policy, input);
	return phases[policy->phase](policy, input);
}

/* ---- told from outside ---- */

void swap_policy_set(struct swap_policy *policy, const struct swap_policy_config *config,
		     uint64_t now_ns)
{
	*policy = (struct swap_policy){
		.config = *config,
		.phase = swap_policy_is_on(config) ? SWAP_POLICY_WATCHING : SWAP_POLICY_OFF,
		.cause = policy->cause,
		.operation = policy->operation,
		.operation_ns = policy->operation_ns,
		.cycles = policy->cycles,
		.backoff = 1,
		.idle_since_ns = now_ns,
		.phase_since_ns = now_ns,
	};
}

void swap_policy_refused(struct swap_policy *policy, uint64_t now_ns)
{
	back_off(policy, now_ns);
}

void swap_policy_suspend(struct swap_policy *policy, uint64_t now_ns)
{
	if (policy->phase == SWAP_POLICY_OFF)
		return;
	enter(policy, SWAP_POLICY_SUSPENDED, now_ns);
	policy->must_work = true;
}

void swap_policy_wake(struct swap_policy *policy, uint64_t now_ns)
{
	policy->idle_since_ns = now_ns;
	if (policy->phase != SWAP_POLICY_OFF && policy->phase != SWAP_POLICY_SUSPENDED)
		enter(policy, SWAP_POLICY_WATCHING, now_ns);
}

uint64_t swap_policy_remaining_ns(const struct swap_policy *policy, uint64_t now_ns)
{
	uint64_t end_ns;

	if (policy->phase == SWAP_POLICY_WATCHING && policy->config.idle_ns)
		end_ns = policy->idle_since_ns + swap_policy_wait_ns(policy);
	else if (policy->phase == SWAP_POLICY_SETTLING)
		end_ns = policy->phase_since_ns + settle_ns(policy);
	else if (policy->phase == SWAP_POLICY_SUSPENDED && !policy->must_work)
		end_ns = policy->idle_since_ns + rest_ns(policy);
	else
		return UINT64_MAX;
	return end_ns > now_ns ? end_ns - now_ns : 0;
}
