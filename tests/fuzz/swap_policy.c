/*
 * Sizes and policies as people write them: what is understood is written back as the same. Then the
 * policy decides for a guest that works, rests and touches as it likes.
 *
 * An input is a line of text, and behind it what happens.
 */
#include "vmm/machine/swap_policy.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"
#include "vmm/base/size.h"

#define STEPS_MAX 256

static void check_text(const char *text)
{
	char again[SWAP_POLICY_TEXT_MAX];
	struct swap_policy_config config, same;
	struct error err;
	uint64_t bytes;

	if (!size_parse(text, &bytes) &&
	    (size_format(bytes, again, sizeof(again)) != again || strlen(again) > 16))
		abort();
	if (!swap_policy_parse(text, &config, &err)) {
		swap_policy_format(&config, again);
		if (swap_policy_parse(again, &same, &err) || same.idle_ns != config.idle_ns ||
		    same.pressure != config.pressure)
			abort();
	}
}

/* Time goes on; CPU time and touches may begin anew. */
static void pass_time(struct swap_policy_input *now, struct fuzz_input *input)
{
	uint8_t how = fuzz_u8(input);
	uint8_t what = fuzz_u8(input);

	now->now_ns += (uint64_t)(how & 0x80 ? fuzz_u16(input) : how) * 100 * NS_PER_MS;
	if (what & 1)
		now->cpu_ns += fuzz_u16(input) * NS_PER_MS;
	if (what & 2)
		now->touches += fuzz_u16(input);
	if (what & 4)
		now->cpu_ns = now->touches = 0;
	now->pressure = (enum pressure_level)(what >> 3 & 3);
	now->busy = what & 0x20;
	now->result = what & 0x40 ? -28 : 0;
	if (what & 0x80)
		now->state = (enum swap_state)(fuzz_u8(input) % 4);
}

static void step(struct swap_policy *policy, struct swap_policy_input *now,
		 struct fuzz_input *input)
{
	uint8_t what = fuzz_u8(input);
	enum swap_policy_action action;

	pass_time(now, input);
	if (what == 0xff)
		swap_policy_suspend(policy, now->now_ns);
	else if (what == 0xfe)
		swap_policy_wake(policy, now->now_ns);
	else if (what == 0xfd)
		swap_policy_refused(policy, now->now_ns);
	action = swap_policy_step(policy, now);
	if (action == SWAP_POLICY_START && policy->operation == SWAP_OP_NONE)
		abort();
	if (action != SWAP_POLICY_WAIT && !swap_policy_is_on(&policy->config))
		abort();
	if (policy->backoff > SWAP_POLICY_BACKOFF_MAX)
		abort();
	if (!*swap_policy_phase_name(policy->phase) || !*swap_policy_cause_name(policy->cause))
		abort();
	swap_policy_wait_ns(policy);
	swap_policy_remaining_ns(policy, now->now_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t length = end ? (size_t)(end - data) : size;
	struct fuzz_input input = {end ? end + 1 : data + size, end ? size - length - 1 : 0};
	struct swap_policy_input now = {.now_ns = NS_PER_SEC, .pages_total = 65536};
	struct swap_policy policy = {0};
	struct swap_policy_config config;
	struct error err;
	char text[256];

	if (length >= sizeof(text))
		return 0;
	if (length)
		memcpy(text, data, length);
	text[length] = '\0';
	check_text(text);
	if (swap_policy_parse(text, &config, &err))
		return 0;
	swap_policy_set(&policy, &config, now.now_ns);
	for (unsigned i = 0; i < STEPS_MAX && fuzz_more(&input); i++)
		step(&policy, &now, &input);
	return 0;
}
