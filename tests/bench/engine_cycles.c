#include <stdio.h>
#include <unistd.h>

#include "tests/bench/engine.h"
#include "tests/bench/touch.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

#define QUIET_US (200u * 1000)
#define AFTER_US (20u * 1000)
/* The part of memory that an idle guest touches when it wakes: one in so many pages. */
#define WOKEN_PART 50u

#define STAGED_TOUCHES 4000u
#define STORED_TOUCHES 2000u
/* A toucher that sleeps between touches leaves work for others to do meanwhile. */
#define PAUSE_US       100u
#define PAUSED_TOUCHES 1500u
/* More than the touchers bring back. */
#define TOUCHED_BYTES (512 * MIB)

/* Staging everything, with a thread at work in it. */
static int enable_watched(struct engine *engine, json_t *result)
{
	struct busy_toucher toucher;
	uint64_t quiet;
	json_t *enable;
	int error;

	busy_toucher_start(&toucher, engine->guest, engine->pages);
	usleep(QUIET_US);
	quiet = busy_toucher_longest(&toucher);
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable");
	usleep(AFTER_US);
	enable = json_object_get(result, "enable");
	json_object_set_new(enable, "longest_stall_ns",
			    json_integer((json_int_t)busy_toucher_longest(&toucher)));
	json_object_set_new(enable, "longest_stall_before_ns", json_integer((json_int_t)quiet));
	busy_toucher_stop(&toucher);
	return error;
}

/* Changes @percent of the pages, spread evenly. */
static void dirty_pages(struct engine *engine, unsigned percent)
{
	for (uint64_t page = 0; page < engine->pages; page++)
		if (page * 37 % 100 < percent)
			ledger_dirty(&engine->ledger, engine->guest, page, percent);
}

/* One more cycle over memory that came back and of which @percent was changed since. */
static int cycle_again(struct engine *engine, json_t *parent, unsigned percent)
{
	json_t *result = json_object();
	char key[16];
	int error;

	snprintf(key, sizeof(key), "dirty_%u", percent);
	json_object_set_new(parent, key, result);
	dirty_pages(engine, percent);
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable");
	if (!error)
		error = engine_operate(engine, SWAP_OP_OUT, result, "out");
	if (error)
		return error;
	engine_make_cold(engine);
	error = engine_operate(engine, SWAP_OP_IN, result, "in");
	if (!error)
		engine_check_present(engine, key);
	return error;
}

static int disable(struct engine *engine, json_t *result, const char *when)
{
	int error = engine_operate(engine, SWAP_OP_DISABLE, result, "disable");

	if (!error)
		engine_check_mapped(engine, when);
	return error;
}

/* Touches some pages of [first, end) and stores the latencies as @key of @result. */
static void touch_some(struct engine *engine, json_t *result, const char *key, uint64_t first,
		       uint64_t end, size_t limit, bool shuffle, unsigned pause_us)
{
	struct touch_list list;
	struct samples samples;
	uint64_t start, ns;
	json_t *object;

	touch_list_create(&list, first, end, limit, shuffle, shuffle ? engine->contents : NULL);
	samples_create(&samples, list.count);
	start = clock_monotonic_ns();
	touch_all(engine->guest, &list, pause_us, NULL, &samples);
	ns = clock_monotonic_ns() - start;
	object = samples_json(&samples, 0);
	json_object_set_new(object, "bytes_per_s",
			    json_real((double)list.count * GUEST_PAGE_SIZE * 1e9 / (double)ns));
	json_object_set_new(result, key, object);
	samples_destroy(&samples);
	touch_list_destroy(&list);
}

/* An idle guest wakes up for a moment, touches a fiftieth of its memory, and sleeps again. */
static int cycle_woken(struct engine *engine, json_t *parent)
{
	json_t *result = json_object();
	int error;

	json_object_set_new(parent, "woken", result);
	warm_up(engine->pages / WOKEN_PART * GUEST_PAGE_SIZE);
	touch_some(engine, result, "touches", 0, engine->pages, engine->pages / WOKEN_PART, true,
		   0);
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable");
	return error ? error : engine_operate(engine, SWAP_OP_OUT, result, "out");
}

/* Nobody but the busy toucher touches memory, and nobody at all after enable. */
int cycle_idle(struct engine *engine, json_t *result)
{
	static const unsigned percents[] = {0, 1, 10, 50};
	int error = enable_watched(engine, result);

	/* What was touched meanwhile is to go out too. */
	if (!error)
		error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable_again");
	if (!error)
		error = engine_operate(engine, SWAP_OP_OUT, result, "out");
	if (error)
		return error;
	if (options_want(engine->options, "second"))
		error = cycle_woken(engine, result);
	if (error)
		return error;
	engine_make_cold(engine);
	error = engine_operate(engine, SWAP_OP_IN, result, "in");
	if (error)
		return error;
	engine_check_present(engine, "the first cycle");
	for (size_t i = 0; i < ARRAY_SIZE(percents) && !error; i++)
		if (options_want(engine->options, "second"))
			error = cycle_again(engine, result, percents[i]);
	return error ? error : disable(engine, result, "the idle cycles");
}

/* ---- faults ---- */

/*
 * One toucher that does nothing else: random ones in the first quarter of memory, in order in the
 * second half.
 */
static void touch_staged(struct engine *engine, json_t *result)
{
	uint64_t pages = engine->pages;

	touch_some(engine, result, "random", 0, pages / 4, STAGED_TOUCHES, true, 0);
	touch_some(engine, result, "sequential", pages / 2, pages, STAGED_TOUCHES, false, 0);
}

static void touch_stored(struct engine *engine, json_t *result)
{
	uint64_t pages = engine->pages;
	uint64_t third_quarter = pages / 4 > 65536 ? pages / 2 + 65536 : pages * 3 / 4;

	touch_some(engine, result, "random", 0, pages / 4, STORED_TOUCHES, true, 0);
	touch_some(engine, result, "sequential", pages / 2, third_quarter, pages, false, 0);
}

int cycle_faults(struct engine *engine, json_t *result)
{
	json_t *staged = json_object(), *stored = json_object();
	int error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable");

	json_object_set_new(result, "staged", staged);
	json_object_set_new(result, "stored", stored);
	if (error)
		return error;
	touch_staged(engine, staged);
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable_again");
	if (!error)
		error = engine_operate(engine, SWAP_OP_TRIM, result, "trim");
	if (!error)
		error = engine_operate(engine, SWAP_OP_OUT, result, "out");
	if (error)
		return error;
	engine_make_cold(engine);
	warm_up(TOUCHED_BYTES);
	touch_stored(engine, stored);

	/* What was touched first is what the next wake-up wants. */
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable_woken");
	if (!error)
		error = engine_operate(engine, SWAP_OP_OUT, result, "out_woken");
	if (error)
		return error;
	engine_make_cold(engine);
	/* Not every engine can: then there is a reason instead of a time. */
	engine_operate(engine, SWAP_OP_WORKING_SET, result, "working_set");
	error = engine_operate(engine, SWAP_OP_IN, result, "in");
	return error ? error : disable(engine, result, "faults");
}

/* ---- faults while an operation runs ---- */

/* An operation with a random toucher that pauses between its touches; both are stored. */
static int operate_touched(struct engine *engine, enum swap_operation operation, json_t *result,
			   const char *key)
{
	struct toucher toucher = {.base = engine->guest, .pause_us = PAUSE_US};
	json_t *object;
	int error;

	touch_list_create(&toucher.list, 0, engine->pages, SIZE_MAX, true, engine->contents);
	toucher_start(&toucher);
	error = engine_operate(engine, operation, result, key);
	toucher_stop(&toucher);
	object = json_object_get(result, key);
	json_object_set_new(object, "faults", samples_json(&toucher.samples, TOUCH_FAULT_NS));
	json_object_set_new(object, "touches", samples_json(&toucher.samples, 0));
	samples_destroy(&toucher.samples);
	return error;
}

int cycle_busy(struct engine *engine, json_t *result)
{
	uint64_t pages = engine->pages;
	int error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable");

	if (error)
		return error;
	touch_some(engine, result, "idle_staged", 0, pages, PAUSED_TOUCHES, true, PAUSE_US);
	error = operate_touched(engine, SWAP_OP_OUT, result, "out");
	if (error)
		return error;
	/* The rest, without anyone touching. */
	error = engine_operate(engine, SWAP_OP_ENABLE, result, "enable_rest");
	if (!error)
		error = engine_operate(engine, SWAP_OP_OUT, result, "out_rest");
	if (error)
		return error;
	engine_make_cold(engine);
	warm_up(TOUCHED_BYTES);
	touch_some(engine, result, "idle_stored", 0, pages, PAUSED_TOUCHES, true, PAUSE_US);
	engine_make_cold(engine);
	error = operate_touched(engine, SWAP_OP_IN, result, "in");
	return error ? error : disable(engine, result, "a busy cycle");
}
