/* The decisions of --swap-auto, on a guest and a host that are only numbers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/machine/swap_policy.h"

#define SECOND NS_PER_SEC
#define IDLE   60

static struct swap_policy policy;
static struct swap_policy_input world;
static struct error error;
static uint64_t cpu_per_second; /* what the guest uses */

static void begin(const char *text)
{
	struct swap_policy_config config;

	assert_int_equal(swap_policy_parse(text, &config, &error), 0);
	policy = (struct swap_policy){0};
	world = (struct swap_policy_input){
		.now_ns = 1000 * SECOND,
		.pages_total = 131072,
		.pressure = PRESSURE_LOW,
		.state = SWAP_DISABLED,
	};
	cpu_per_second = 0;
	swap_policy_set(&policy, &config, world.now_ns);
	swap_policy_step(&policy, &world);
}

static enum swap_policy_action second(void)
{
	world.now_ns += SECOND;
	world.cpu_ns += cpu_per_second;
	return swap_policy_step(&policy, &world);
}

/* Nothing is started for @seconds. */
static void assert_waits(unsigned seconds)
{
	for (unsigned i = 0; i < seconds; i++) {
		enum swap_policy_action action = second();

		if (action != SWAP_POLICY_WAIT)
			fail_msg("after %u s: action %d, operation %d", i + 1, action,
				 policy.operation);
	}
}

static void assert_starts(enum swap_operation operation)
{
	assert_int_equal(second(), SWAP_POLICY_START);
	assert_int_equal(policy.operation, operation);
	world.busy = true;
}

/* The operation that was started ends well. */
static enum swap_policy_action end_operation(int result)
{
	world.busy = false;
	world.result = result;
	if (!result && policy.operation == SWAP_OP_ENABLE)
		world.state = SWAP_STAGED;
	if (!result && policy.operation == SWAP_OP_OUT)
		world.state = SWAP_OUT;
	return swap_policy_step(&policy, &world);
}

/* Until the trim is asked for. */
static void stage_by_idleness(void)
{
	assert_waits((unsigned)(swap_policy_wait_ns(&policy) / SECOND) - 1);
	assert_starts(SWAP_OP_ENABLE);
	assert_int_equal(end_operation(0), SWAP_POLICY_WAIT);
	assert_int_equal(policy.phase, SWAP_POLICY_SETTLING);
}

static void swap_out_by_idleness(void)
{
	stage_by_idleness();
	assert_waits(9);
	assert_starts(SWAP_OP_TRIM);
	assert_int_equal(end_operation(0), SWAP_POLICY_START);
	assert_int_equal(policy.operation, SWAP_OP_OUT);
	world.busy = true;
	assert_int_equal(end_operation(0), SWAP_POLICY_WAIT);
	assert_int_equal(policy.phase, SWAP_POLICY_ASLEEP);
}

/* The guest uses all of a CPU for a second. */
static void work(void)
{
	uint64_t before = cpu_per_second;

	cpu_per_second = SECOND;
	second();
	cpu_per_second = before;
}

static void off_starts_nothing(void **state)
{
	(void)state;
	begin("off");
	world.pressure = PRESSURE_HIGH;
	assert_waits(1000);
	assert_int_equal(policy.phase, SWAP_POLICY_OFF);
}

static void idle_guest_is_swapped_out_step_by_step(void **state)
{
	(void)state;
	begin("idle=60");
	swap_out_by_idleness();
	assert_int_equal(policy.cycles, 1);
	assert_waits(100000);
}

static void guest_that_works_is_left_alone(void **state)
{
	(void)state;
	begin("idle=60");
	cpu_per_second = SECOND / 10;
	assert_waits(1000);
}

static void a_little_work_is_idleness(void **state)
{
	(void)state;
	begin("idle=60");
	cpu_per_second = SECOND * 4 / 100;
	swap_out_by_idleness();
}

static void short_bursts_are_idleness(void **state)
{
	(void)state;
	begin("idle=60");
	for (int i = 0; i < 59; i++) {
		cpu_per_second = i % 10 ? 0 : SECOND / 5;
		assert_waits(1);
	}
	assert_starts(SWAP_OP_ENABLE);
}

static void work_begins_the_waiting_anew(void **state)
{
	(void)state;
	begin("idle=60");
	assert_waits(59);
	work();
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void many_cpus_count_together(void **state)
{
	(void)state;
	begin("idle=60");
	cpu_per_second = 8 * SECOND;
	assert_waits(200);
}

static void reset_of_the_guest_counts_as_work(void **state)
{
	(void)state;
	begin("idle=60");
	world.cpu_ns = 5000 * SECOND;
	work();
	assert_waits(58);
	world.cpu_ns = 0;
	assert_waits(60);
	assert_starts(SWAP_OP_ENABLE);
}

static void other_operations_are_waited_for(void **state)
{
	(void)state;
	begin("idle=60");
	world.busy = true;
	assert_waits(200);
	world.busy = false;
	assert_starts(SWAP_OP_ENABLE);
}

static void settling_time_is_half_of_a_short_wait(void **state)
{
	(void)state;
	begin("idle=4");
	assert_waits(3);
	assert_starts(SWAP_OP_ENABLE);
	end_operation(0);
	assert_waits(1);
	assert_starts(SWAP_OP_TRIM);
}

static void guest_that_wakes_while_it_settles_stays(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	work();
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
	assert_int_equal(policy.backoff, 2);
	assert_waits(119);
	assert_starts(SWAP_OP_ENABLE);
}

static void guest_that_touches_a_lot_while_it_settles_stays(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	world.touches += world.pages_total / 32 + 1;
	assert_waits(1);
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
	assert_int_equal(policy.backoff, 2);
}

static void few_touches_while_settling_do_not_count(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	world.touches += 1000;
	assert_waits(9);
	assert_starts(SWAP_OP_TRIM);
}

static void touches_that_begin_at_zero_again_do_not_wrap(void **state)
{
	(void)state;
	begin("idle=60");
	world.touches = 1000000;
	stage_by_idleness();
	world.touches = 0;
	assert_waits(9);
	assert_starts(SWAP_OP_TRIM);
}

static void back_off_is_bounded(void **state)
{
	(void)state;
	begin("idle=60");
	for (int i = 0; i < 10; i++) {
		stage_by_idleness();
		work();
	}
	assert_int_equal(policy.backoff, SWAP_POLICY_BACKOFF_MAX);
	assert_int_equal(swap_policy_wait_ns(&policy), SECOND * IDLE * SWAP_POLICY_BACKOFF_MAX);
}

static void guest_that_wakes_soon_is_waited_for_longer(void **state)
{
	(void)state;
	begin("idle=60");
	swap_out_by_idleness();
	assert_waits(10);
	work();
	assert_int_equal(policy.backoff, 2);
	assert_waits(119);
	assert_starts(SWAP_OP_ENABLE);
}

static void guest_that_slept_long_is_waited_for_as_at_first(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	work();
	swap_out_by_idleness();
	assert_waits(1000);
	work();
	assert_int_equal(policy.backoff, 1);
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void touching_much_is_waking(void **state)
{
	(void)state;
	begin("idle=60");
	swap_out_by_idleness();
	assert_waits(100);
	world.touches += 50000;
	assert_waits(1);
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
}

static void failed_operations_are_tried_again_later(void **state)
{
	(void)state;
	begin("idle=60");
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
	assert_int_equal(end_operation(-ENOSPC), SWAP_POLICY_WAIT);
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
	assert_waits(119);
	assert_starts(SWAP_OP_ENABLE);
	end_operation(0);
	assert_waits(9);
	assert_starts(SWAP_OP_TRIM);
	end_operation(0);
	world.busy = true;
	assert_int_equal(end_operation(-ENOSPC), SWAP_POLICY_WAIT);
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
	assert_int_equal(policy.backoff, 4);
	assert_int_equal(policy.cycles, 0);
}

static void refused_operations_are_tried_again_later(void **state)
{
	(void)state;
	begin("idle=60");
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
	world.busy = false;
	swap_policy_refused(&policy, world.now_ns);
	assert_waits(119);
	assert_starts(SWAP_OP_ENABLE);
}

static void writing_is_cancelled_when_the_guest_wakes(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	assert_waits(9);
	assert_starts(SWAP_OP_TRIM);
	end_operation(0);
	world.busy = true;
	assert_waits(3);
	cpu_per_second = SECOND;
	assert_int_equal(second(), SWAP_POLICY_CANCEL);
	assert_waits(1); /* once is enough */
	assert_int_equal(end_operation(-ECANCELED), SWAP_POLICY_WAIT);
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
}

static void pressure_swaps_out_a_guest_that_works(void **state)
{
	(void)state;
	begin("pressure");
	cpu_per_second = SECOND;
	assert_waits(100);
	world.pressure = PRESSURE_HIGH;
	assert_starts(SWAP_OP_ENABLE);
	end_operation(0);
	assert_int_equal(policy.cause, SWAP_POLICY_PRESSURE);
	/* First it fetches what it needs. */
	world.touches += 50000;
	assert_waits(5);
	assert_waits(4);
	assert_starts(SWAP_OP_TRIM);
	assert_int_equal(end_operation(0), SWAP_POLICY_START);
	world.busy = true;
	assert_waits(5);
	end_operation(0);
	assert_int_equal(policy.phase, SWAP_POLICY_ASLEEP);
}

static void pressure_leaves_a_guest_alone_that_needs_everything(void **state)
{
	(void)state;
	begin("pressure");
	cpu_per_second = SECOND;
	world.pressure = PRESSURE_HIGH;
	assert_starts(SWAP_OP_ENABLE);
	end_operation(0);
	for (int i = 0; i < 20; i++) {
		world.touches += 10000;
		assert_waits(1);
	}
	assert_int_equal(policy.phase, SWAP_POLICY_WATCHING);
	assert_waits(118);
}

static void pressure_acts_once_in_a_while(void **state)
{
	(void)state;
	begin("pressure");
	cpu_per_second = SECOND;
	world.pressure = PRESSURE_HIGH;
	assert_starts(SWAP_OP_ENABLE);
	end_operation(0);
	assert_waits(4);
	assert_starts(SWAP_OP_TRIM);
	end_operation(0);
	world.busy = true;
	end_operation(0);
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void pressure_has_two_marks(void **state)
{
	(void)state;
	begin("pressure");
	cpu_per_second = SECOND;
	world.pressure = PRESSURE_MIDDLE;
	assert_waits(100);
	/* Once begun, it goes on between the marks… */
	world.busy = true;
	world.pressure = PRESSURE_HIGH;
	assert_waits(1);
	world.pressure = PRESSURE_MIDDLE;
	world.busy = false;
	assert_starts(SWAP_OP_ENABLE);
	assert_int_equal(end_operation(-EIO), SWAP_POLICY_WAIT);
	/* …and ends at the low one. */
	world.pressure = PRESSURE_LOW;
	assert_waits(1);
	world.pressure = PRESSURE_MIDDLE;
	assert_waits(1000);
}

static void unknown_pressure_is_none(void **state)
{
	(void)state;
	begin("pressure");
	world.pressure = PRESSURE_UNKNOWN;
	assert_waits(1000);
}

static void idleness_and_pressure_combine(void **state)
{
	(void)state;
	begin("idle=60,pressure");
	assert_waits(30);
	world.pressure = PRESSURE_HIGH;
	assert_starts(SWAP_OP_ENABLE);
	assert_int_equal(policy.cause, SWAP_POLICY_PRESSURE);
	begin("idle=60,pressure");
	swap_out_by_idleness();
}

static void users_command_suspends_until_the_guest_was_idle_anew(void **state)
{
	(void)state;
	begin("idle=60");
	swap_out_by_idleness();
	world.state = SWAP_RESIDENT;
	swap_policy_suspend(&policy, world.now_ns);
	/* It was idle all the time: the user has the last word. */
	assert_waits(1000);
	assert_int_equal(policy.phase, SWAP_POLICY_SUSPENDED);
	work();
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void users_command_suspends_pressure_too(void **state)
{
	(void)state;
	begin("pressure");
	swap_policy_suspend(&policy, world.now_ns);
	world.pressure = PRESSURE_HIGH;
	assert_waits(1000);
	work();
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void users_command_in_the_middle_stops_the_cycle(void **state)
{
	(void)state;
	begin("idle=60");
	stage_by_idleness();
	swap_policy_suspend(&policy, world.now_ns);
	assert_waits(1000);
}

static void setting_a_policy_ends_the_suspension(void **state)
{
	const struct swap_policy_config config = {.idle_ns = 5 * SECOND};

	(void)state;
	begin("idle=60");
	swap_policy_suspend(&policy, world.now_ns);
	assert_waits(100);
	swap_policy_set(&policy, &config, world.now_ns);
	assert_waits(5); /* the first look only learns */
	assert_starts(SWAP_OP_ENABLE);
}

static void suspending_what_is_off_leaves_it_off(void **state)
{
	(void)state;
	begin("off");
	swap_policy_suspend(&policy, world.now_ns);
	assert_int_equal(policy.phase, SWAP_POLICY_OFF);
	swap_policy_wake(&policy, world.now_ns);
	assert_int_equal(policy.phase, SWAP_POLICY_OFF);
}

static void waking_begins_the_waiting_anew(void **state)
{
	(void)state;
	begin("idle=60");
	swap_out_by_idleness();
	swap_policy_wake(&policy, world.now_ns);
	assert_waits(59);
	assert_starts(SWAP_OP_ENABLE);
}

static void remaining_time_is_told(void **state)
{
	(void)state;
	begin("idle=60");
	assert_waits(20);
	assert_int_equal(swap_policy_remaining_ns(&policy, world.now_ns), 40 * SECOND);
	assert_waits(39);
	assert_starts(SWAP_OP_ENABLE);
	assert_true(swap_policy_remaining_ns(&policy, world.now_ns) == UINT64_MAX);
	end_operation(0);
	assert_int_equal(swap_policy_remaining_ns(&policy, world.now_ns), 10 * SECOND);
	begin("pressure");
	assert_true(swap_policy_remaining_ns(&policy, world.now_ns) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(off_starts_nothing),
		cmocka_unit_test(idle_guest_is_swapped_out_step_by_step),
		cmocka_unit_test(guest_that_works_is_left_alone),
		cmocka_unit_test(a_little_work_is_idleness),
		cmocka_unit_test(short_bursts_are_idleness),
		cmocka_unit_test(work_begins_the_waiting_anew),
		cmocka_unit_test(many_cpus_count_together),
		cmocka_unit_test(reset_of_the_guest_counts_as_work),
		cmocka_unit_test(other_operations_are_waited_for),
		cmocka_unit_test(settling_time_is_half_of_a_short_wait),
		cmocka_unit_test(guest_that_wakes_while_it_settles_stays),
		cmocka_unit_test(guest_that_touches_a_lot_while_it_settles_stays),
		cmocka_unit_test(few_touches_while_settling_do_not_count),
		cmocka_unit_test(touches_that_begin_at_zero_again_do_not_wrap),
		cmocka_unit_test(back_off_is_bounded),
		cmocka_unit_test(guest_that_wakes_soon_is_waited_for_longer),
		cmocka_unit_test(guest_that_slept_long_is_waited_for_as_at_first),
		cmocka_unit_test(touching_much_is_waking),
		cmocka_unit_test(failed_operations_are_tried_again_later),
		cmocka_unit_test(refused_operations_are_tried_again_later),
		cmocka_unit_test(writing_is_cancelled_when_the_guest_wakes),
		cmocka_unit_test(pressure_swaps_out_a_guest_that_works),
		cmocka_unit_test(pressure_leaves_a_guest_alone_that_needs_everything),
		cmocka_unit_test(pressure_acts_once_in_a_while),
		cmocka_unit_test(pressure_has_two_marks),
		cmocka_unit_test(unknown_pressure_is_none),
		cmocka_unit_test(idleness_and_pressure_combine),
		cmocka_unit_test(users_command_suspends_until_the_guest_was_idle_anew),
		cmocka_unit_test(users_command_suspends_pressure_too),
		cmocka_unit_test(users_command_in_the_middle_stops_the_cycle),
		cmocka_unit_test(setting_a_policy_ends_the_suspension),
		cmocka_unit_test(suspending_what_is_off_leaves_it_off),
		cmocka_unit_test(waking_begins_the_waiting_anew),
		cmocka_unit_test(remaining_time_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
