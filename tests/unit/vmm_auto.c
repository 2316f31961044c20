/* Automatic swap on a real event loop and clock, and a machine that only remembers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fake_machine.h"
#include "vmm/base/event_loop.h"
#include "vmm/control/commands.h"
#include "vmm/control/control_operation.h"
#include "vmm/control/swap_auto.h"

#define PATIENCE_NS (20 * NS_PER_SEC)

static struct event_loop *loop;
static struct event_source *watcher;
static struct swap_auto *automation;
static struct control_host host = {.name = "web"};
static struct error error;
static enum swap_policy_phase wanted;
static uint64_t deadline_ns;
static bool worker_rests;
static int results[SWAP_OP_COUNT]; /* what operations end with */

static struct swap_auto_status look(void)
{
	struct swap_auto_status status;

	swap_auto_get_status(automation, &status);
	return status;
}

/* The worker: every operation is over at once, unless it rests. Ends the loop in the phase that the test wants. */
static void on_watch(void *opaque, uint32_t events)
{
	int operation = fake.operation;

	(void)opaque;
	(void)events;
	if (operation != SWAP_OP_NONE && !worker_rests) {
		int result = results[operation];

		if (!result && operation == SWAP_OP_ENABLE)
			fake.swap_state = SWAP_STAGED;
		if (!result && operation == SWAP_OP_OUT)
			fake.swap_state = SWAP_OUT;
		fake_machine_finish(result);
		swap_auto_operation_done(automation);
	}
	if (look().policy.phase == wanted || clock_monotonic_ns() > deadline_ns)
		event_loop_stop(loop);
}

static void await_phase(enum swap_policy_phase phase)
{
	wanted = phase;
	deadline_ns = clock_monotonic_ns() + PATIENCE_NS;
	assert_int_equal(event_loop_run(loop), 0);
	assert_int_equal(look().policy.phase, phase);
}

static int setup(void **state)
{
	const struct swap_policy_config off = {0};

	(void)state;
	fake_machine_init();
	worker_rests = false;
	memset(results, 0, sizeof(results));
	assert_int_equal(event_loop_create(&loop), 0);
	assert_int_equal(event_loop_add_timer(loop, on_watch, NULL, &watcher), 0);
	event_source_arm(watcher, 5 * NS_PER_MS, 5 * NS_PER_MS);
	assert_int_equal(swap_auto_create(loop, NULL, &off, &automation, &error), 0);
	host.automation = automation;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	swap_auto_destroy(automation);
	event_loop_destroy(loop);
	return 0;
}

static void idle_guest_is_swapped_out(void **state)
{
	(void)state;
	assert_int_equal(swap_auto_set(automation, "idle=1", &error), 0);
	assert_int_equal(look().policy.phase, SWAP_POLICY_WATCHING);
	await_phase(SWAP_POLICY_ASLEEP);
	assert_int_equal(fake.starts, 3);
	assert_int_equal(fake.last, SWAP_OP_OUT);
	assert_int_equal(look().policy.cycles, 1);
	assert_false(swap_auto_is_running(automation));
}

static void failure_is_remembered_and_told(void **state)
{
	const struct command *command = commands_find("swap auto");
	const struct control_request request = {.command = "swap auto"};
	const json_t *last;
	json_t *answer;

	(void)state;
	results[SWAP_OP_OUT] = -ENOSPC;
	assert_int_equal(swap_auto_set(automation, "idle=1", &error), 0);
	await_phase(SWAP_POLICY_SETTLING);
	await_phase(SWAP_POLICY_WATCHING);
	assert_int_equal(look().result, -ENOSPC);
	assert_int_equal(look().policy.backoff, 2);
	assert_int_equal(command->run(&host, &request, &answer, &error), 0);
	last = json_object_get(answer, "last");
	assert_string_equal(json_string_value(json_object_get(last, "operation")), "out");
	assert_string_equal(json_string_value(json_object_get(last, "message")),
			    "the store is full");
	json_decref(answer);
}

static void refusal_is_remembered(void **state)
{
	(void)state;
	fake.refusal = -ENOTSUP;
	assert_int_equal(swap_auto_set(automation, "idle=1", &error), 0);
	wanted = SWAP_POLICY_OFF;
	deadline_ns = clock_monotonic_ns() + 1500 * NS_PER_MS;
	event_loop_run(loop);
	assert_int_equal(look().result, -ENOTSUP);
	assert_int_equal(look().policy.phase, SWAP_POLICY_WATCHING);
	assert_int_equal(look().policy.backoff, 2);
}

static void off_looks_at_nothing(void **state)
{
	(void)state;
	wanted = SWAP_POLICY_WATCHING;
	deadline_ns = clock_monotonic_ns() + 1200 * NS_PER_MS;
	event_loop_run(loop);
	assert_int_equal(fake.starts, 0);
	assert_false(look().policy.seen);
}

static void on_brings_the_last_policy_back(void **state)
{
	(void)state;
	assert_int_equal(swap_auto_set(automation, "on", &error), -ERANGE);
	assert_int_equal(swap_auto_set(automation, "idle=7", &error), 0);
	assert_int_equal(swap_auto_set(automation, "off", &error), 0);
	assert_int_equal(look().policy.phase, SWAP_POLICY_OFF);
	assert_int_equal(swap_auto_set(automation, "on", &error), 0);
	assert_int_equal(look().policy.config.idle_ns, 7 * NS_PER_SEC);
}

static void bad_policy_changes_nothing(void **state)
{
	(void)state;
	assert_int_equal(swap_auto_set(automation, "idle=7", &error), 0);
	assert_int_equal(swap_auto_set(automation, "idle=x", &error), -ERANGE);
	assert_non_null(strstr(error.text, "idle=SECONDS"));
	assert_int_equal(look().policy.config.idle_ns, 7 * NS_PER_SEC);
}

/* Starts what the client's command @name asks for, and ends it. */
static void run_operation(const char *name)
{
	const struct control_request request = {.command = name};
	struct control_operation operation = {0};
	struct swap_status status;
	json_t *answer = NULL;

	assert_int_equal(control_operation_start(&operation, &host, commands_find(name), &request,
						 &answer, &error),
			 0);
	fake_machine_finish(0);
	swap_get_status(NULL, &status);
	assert_int_equal(control_operation_finish(&operation, &host, &status, &answer, &error),
			 CONTROL_OK);
	json_decref(answer);
}

static void users_operation_suspends(void **state)
{
	(void)state;
	assert_int_equal(swap_auto_set(automation, "idle=7", &error), 0);
	run_operation("checksum-memory");
	assert_int_equal(look().policy.phase, SWAP_POLICY_WATCHING);
	run_operation("swap in");
	assert_int_equal(look().policy.phase, SWAP_POLICY_SUSPENDED);
	assert_int_equal(swap_auto_set(automation, "on", &error), 0);
	assert_int_equal(look().policy.phase, SWAP_POLICY_WATCHING);
}

static void users_cancel_suspends_only_what_was_automatic(void **state)
{
	const struct command *cancel = commands_find("swap cancel");
	const struct control_request request = {.command = "swap cancel"};
	json_t *answer;

	(void)state;
	assert_int_equal(swap_auto_set(automation, "idle=1", &error), 0);
	fake.operation = SWAP_OP_DUMP;
	assert_int_equal(cancel->run(&host, &request, &answer, &error), 0);
	json_decref(answer);
	assert_int_equal(look().policy.phase, SWAP_POLICY_WATCHING);
	fake.operation = SWAP_OP_NONE;
	worker_rests = true;
	await_phase(SWAP_POLICY_STAGING);
	assert_int_equal(cancel->run(&host, &request, &answer, &error), 0);
	assert_string_equal(json_string_value(json_object_get(answer, "command")), "swap enable");
	json_decref(answer);
	assert_int_equal(look().policy.phase, SWAP_POLICY_SUSPENDED);
}

static void no_automation_is_tolerated(void **state)
{
	(void)state;
	swap_auto_destroy(NULL);
	swap_auto_user_acts(NULL);
	swap_auto_user_wakes(NULL);
	swap_auto_operation_done(NULL);
	assert_false(swap_auto_is_running(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(idle_guest_is_swapped_out),
		TEST(failure_is_remembered_and_told),
		TEST(refusal_is_remembered),
		TEST(off_looks_at_nothing),
		TEST(on_brings_the_last_policy_back),
		TEST(bad_policy_changes_nothing),
		TEST(users_operation_suspends),
		TEST(users_cancel_suspends_only_what_was_automatic),
		TEST(no_automation_is_tolerated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
