/* What a machine that only remembers makes of events, and who gets which of them. */
#include "vmm/control/events.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_machine.h"
#include "vmm/base/log.h"

static struct {
	struct event_loop *loop;
	struct events *events;
	uint64_t seen;
	unsigned heard;
} fixture;

static int setup(void **state)
{
	struct error error;

	(void)state;
	fake_machine_init();
	memset(&fixture, 0, sizeof(fixture));
	return event_loop_create(&fixture.loop) ||
	       events_create(fixture.loop, (struct machine *)&fixture, &fixture.events, &error);
}

static int teardown(void **state)
{
	(void)state;
	events_destroy(fixture.events);
	event_loop_destroy(fixture.loop);
	return 0;
}

/* The members of the next event; NULL if there is none. */
static json_t *next(void)
{
	char *line = events_next(fixture.events, &fixture.seen);
	json_t *json = line ? json_loads(line, 0, NULL) : NULL;
	json_t *event = json_incref(json_object_get(json, "event"));

	if (line)
		assert_int_equal(line[strlen(line) - 1], '\n');
	json_decref(json);
	free(line);
	return event;
}

static void assert_next(const char *type, const char *key, const char *value)
{
	json_t *event = next();

	assert_non_null(event);
	assert_string_equal(json_string_value(json_object_get(event, "type")), type);
	assert_int_equal(json_integer_value(json_object_get(event, "sequence")), fixture.seen);
	assert_true(json_integer_value(json_object_get(event, "time_ns")) > 0);
	if (key)
		assert_string_equal(json_string_value(json_object_get(event, key)), value);
	json_decref(event);
}

static void assert_no_more(void)
{
	assert_null(next());
}

static void emit(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		events_emit(fixture.events, "test", json_object());
}

static void events_come_in_order(void **state)
{
	(void)state;
	emit(2);
	assert_next("test", NULL, NULL);
	assert_next("test", NULL, NULL);
	assert_int_equal(fixture.seen, 2);
	assert_int_equal(events_last(fixture.events), 2);
	assert_no_more();
}

static void slow_reader_is_told_what_it_lost(void **state)
{
	json_t *event;

	(void)state;
	emit(EVENTS_KEPT + 7);
	event = next();
	assert_string_equal(json_string_value(json_object_get(event, "type")), "lost");
	assert_int_equal(json_integer_value(json_object_get(event, "count")), 7);
	assert_int_equal(fixture.seen, 7);
	json_decref(event);
	for (unsigned i = 0; i < EVENTS_KEPT; i++)
		assert_next("test", NULL, NULL);
	assert_no_more();
}

static void event_without_memory_is_a_lost_one(void **state)
{
	(void)state;
	events_emit(fixture.events, "test", NULL);
	emit(1);
	assert_next("lost", NULL, NULL);
	assert_next("test", NULL, NULL);
}

static void on_event(void *opaque)
{
	(void)opaque;
	fixture.heard++;
}

static void listeners_hear_of_each_event(void **state)
{
	(void)state;
	assert_int_equal(events_listen(fixture.events, on_event, NULL), 0);
	emit(3);
	assert_int_equal(fixture.heard, 3);
}

static void too_many_listeners_are_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < EVENTS_LISTENERS_MAX; i++)
		assert_int_equal(events_listen(fixture.events, on_event, NULL), 0);
	assert_int_equal(events_listen(fixture.events, on_event, NULL), -ENOSPC);
}

static void no_events_are_tolerated(void **state)
{
	uint64_t sequence = 0;

	(void)state;
	events_emit(NULL, "test", json_object());
	events_look(NULL);
	events_swap_started(NULL, SWAP_OP_OUT, "user");
	events_end(NULL, "quit");
	assert_null(events_next(NULL, &sequence));
	assert_int_equal(events_last(NULL), 0);
}

static void what_is_so_at_first_is_no_event(void **state)
{
	(void)state;
	events_look(fixture.events);
	assert_no_more();
}

static void pause_is_an_event_once(void **state)
{
	(void)state;
	fake.state = MACHINE_PAUSED;
	events_look(fixture.events);
	events_look(fixture.events);
	assert_next("state", "state", "paused");
	assert_no_more();
}

static void reset_is_an_event(void **state)
{
	(void)state;
	fake.resets = 1;
	events_look(fixture.events);
	assert_next("reset", NULL, NULL);
	assert_no_more();
}

static void panic_is_an_event_once_until_reset(void **state)
{
	(void)state;
	fake.panicked = true;
	events_look(fixture.events);
	events_look(fixture.events);
	assert_next("guest_panicked", NULL, NULL);
	assert_no_more();
	fake.panicked = false;
	events_look(fixture.events);
	fake.panicked = true;
	events_look(fixture.events);
	assert_next("guest_panicked", NULL, NULL);
}

static void balloon_target_is_an_event(void **state)
{
	(void)state;
	fake.balloon_target = 1 << 20;
	events_look(fixture.events);
	assert_next("balloon", NULL, NULL);
	assert_no_more();
}

static void balloon_that_moves_often_is_told_seldom(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 100; i++) {
		fake.balloon_target = i << 12;
		events_look_at_balloon(fixture.events);
	}
	assert_next("balloon", NULL, NULL);
	assert_no_more();
}

static void stop_loop(void *opaque, uint32_t mask)
{
	(void)opaque;
	(void)mask;
	event_loop_stop(fixture.loop);
}

static void run_loop_for(uint64_t ns)
{
	struct event_source *timer;

	assert_int_equal(event_loop_add_timer(fixture.loop, stop_loop, NULL, &timer), 0);
	event_source_arm(timer, ns, 0);
	event_loop_run(fixture.loop);
	event_source_remove(timer);
}

static void last_step_of_the_balloon_is_told(void **state)
{
	json_t *event;

	(void)state;
	fake.balloon_target = 4096;
	events_look_at_balloon(fixture.events);
	fake.balloon_target = 8192;
	events_look_at_balloon(fixture.events);
	run_loop_for(2 * EVENTS_BALLOON_NS);
	assert_next("balloon", NULL, NULL);
	event = next();
	assert_int_equal(json_integer_value(json_object_get(event, "target_bytes")), 8192);
	json_decref(event);
}

static void start_operation(enum swap_operation operation)
{
	struct error error;

	swap_start((struct swap *)&fixture, operation, &error);
	events_swap_started(fixture.events, operation, "user");
}

static void operation_starts_and_ends(void **state)
{
	(void)state;
	start_operation(SWAP_OP_OUT);
	events_look_at_swap(fixture.events);
	assert_next("swap_started", "command", "swap out");
	assert_no_more();
	fake_machine_finish(0);
	events_look_at_swap(fixture.events);
	events_look_at_swap(fixture.events);
	assert_next("swap_ended", "by", "user");
	assert_no_more();
}

static void unnoticed_end_comes_before_the_next_start(void **state)
{
	(void)state;
	start_operation(SWAP_OP_ENABLE);
	fake_machine_finish(0);
	start_operation(SWAP_OP_OUT);
	assert_next("swap_started", "operation", "enable");
	assert_next("swap_ended", "operation", "enable");
	assert_next("swap_started", "operation", "out");
}

static void failed_operation_says_why(void **state)
{
	(void)state;
	start_operation(SWAP_OP_OUT);
	fake_machine_finish(-ENOSPC);
	events_look_at_swap(fixture.events);
	assert_next("swap_started", NULL, NULL);
	assert_next("swap_ended", "message", "the store is full");
}

static void step_of_the_policy_is_an_event(void **state)
{
	struct swap_policy policy = {.phase = SWAP_POLICY_WATCHING};

	(void)state;
	events_look_at_policy(fixture.events, &policy);
	events_look_at_policy(fixture.events, &policy);
	assert_next("auto", "phase", "watching");
	assert_no_more();
}

static void warnings_become_events(void **state)
{
	(void)state;
	log_warning("something \xff is odd");
	run_loop_for(1);
	assert_next("log", "message", "something ? is odd");
	log_info("nothing of interest");
	run_loop_for(1);
	assert_no_more();
}

static void full_pipe_delays_no_message(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 200; i++)
		log_error("number %u", i);
	run_loop_for(1);
	assert_next("log", "message", "number 0");
	assert_true(events_last(fixture.events) < 200);
}

static void end_is_told_with_its_reason(void **state)
{
	(void)state;
	events_end(fixture.events, "quit");
	assert_next("state", "reason", "quit");
}

static void end_of_a_stopped_machine_is_told_once(void **state)
{
	(void)state;
	fake.state = MACHINE_STOPPED;
	events_look(fixture.events);
	events_end(fixture.events, "quit");
	assert_next("state", "state", "stopped");
	assert_no_more();
}

#define EVENTS_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EVENTS_TEST(events_come_in_order),
		EVENTS_TEST(slow_reader_is_told_what_it_lost),
		EVENTS_TEST(event_without_memory_is_a_lost_one),
		EVENTS_TEST(listeners_hear_of_each_event),
		EVENTS_TEST(too_many_listeners_are_refused),
		EVENTS_TEST(no_events_are_tolerated),
		EVENTS_TEST(what_is_so_at_first_is_no_event),
		EVENTS_TEST(pause_is_an_event_once),
		EVENTS_TEST(reset_is_an_event),
		EVENTS_TEST(panic_is_an_event_once_until_reset),
		EVENTS_TEST(balloon_target_is_an_event),
		EVENTS_TEST(balloon_that_moves_often_is_told_seldom),
		EVENTS_TEST(last_step_of_the_balloon_is_told),
		EVENTS_TEST(operation_starts_and_ends),
		EVENTS_TEST(unnoticed_end_comes_before_the_next_start),
		EVENTS_TEST(failed_operation_says_why),
		EVENTS_TEST(step_of_the_policy_is_an_event),
		EVENTS_TEST(warnings_become_events),
		EVENTS_TEST(full_pipe_delays_no_message),
		EVENTS_TEST(end_is_told_with_its_reason),
		EVENTS_TEST(end_of_a_stopped_machine_is_told_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
