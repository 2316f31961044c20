#include "devices/rtc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>

#include "vmm/base/clock.h"
#include "vmm/base/thread.h"

#define SECOND ((int64_t)NS_PER_SEC)

/* Fri Nov 20 2026, 17:05:09 UTC. */
#define START 1795194309ll

#define B_SET      0x80u
#define B_PERIODIC 0x40u
#define B_ALARM    0x20u
#define B_UPDATE   0x10u
#define B_BINARY   0x04u
#define B_24_HOURS 0x02u
#define UIP        0x80u
#define C_REQUEST  0x80u

struct fixture {
	struct rtc *rtc;
	struct event_loop *loop;
	int64_t now; /* what the host's clock says */
};

static int64_t fake_now(void *opaque)
{
	return ((struct fixture *)opaque)->now;
}

static int setup(void **state)
{
	static struct fixture fixture;
	const struct rtc_clock clock = {.opaque = &fixture, .now_ns = fake_now};

	fixture = (struct fixture){.now = START * SECOND};
	*state = &fixture;
	if (event_loop_create(&fixture.loop))
		return -1;
	return rtc_create(fixture.loop, &clock, &fixture.rtc);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	rtc_destroy(fixture->rtc);
	event_loop_destroy(fixture->loop);
	return 0;
}

static uint8_t get(struct rtc *rtc, uint8_t index)
{
	rtc_bus_ops.write(rtc, 0, index, 1);
	return (uint8_t)rtc_bus_ops.read(rtc, 1, 1);
}

static void set(struct rtc *rtc, uint8_t index, uint8_t value)
{
	rtc_bus_ops.write(rtc, 0, index, 1);
	rtc_bus_ops.write(rtc, 1, value, 1);
}

/* Century, year, month, day, hour, minute, second. */
static void assert_time(struct rtc *rtc, const uint8_t expected[7])
{
	static const uint8_t registers[7] = {0x32, 9, 8, 7, 4, 2, 0};

	for (unsigned i = 0; i < 7; i++)
		assert_int_equal(get(rtc, registers[i]), expected[i]);
}

static void set_time(struct rtc *rtc, const uint8_t time[7])
{
	static const uint8_t registers[7] = {0x32, 9, 8, 7, 4, 2, 0};

	set(rtc, 0xb, get(rtc, 0xb) | B_SET);
	for (unsigned i = 0; i < 7; i++)
		set(rtc, registers[i], time[i]);
	set(rtc, 0xb, get(rtc, 0xb) & (uint8_t)~B_SET);
}

static bool interrupted(struct rtc *rtc)
{
	eventfd_t count;

	return eventfd_read(rtc_irq_fd(rtc), &count) == 0;
}

static void shows_utc_in_bcd_and_24_hours(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(get(fixture->rtc, 0xb), B_24_HOURS);
	assert_time(fixture->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x17, 0x05, 0x09});
	assert_int_equal(get(fixture->rtc, 6), 6); /* Friday, Sunday being 1 */
}

static void shows_binary_on_demand(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 0xb, B_24_HOURS | B_BINARY);
	assert_time(fixture->rtc, (uint8_t[]){20, 26, 11, 20, 17, 5, 9});
}

static void shows_twelve_hours_on_demand(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 0xb, 0);
	assert_int_equal(get(fixture->rtc, 4), 0x85); /* 5 pm */
	fixture->now = (START - 5 * 3600) * SECOND;
	assert_int_equal(get(fixture->rtc, 4), 0x92); /* noon: 12 pm */
	fixture->now -= 12 * 3600 * SECOND;
	assert_int_equal(get(fixture->rtc, 4), 0x12); /* midnight: 12 am */
}

static void goes_on_with_the_host(void **state)
{
	struct fixture *fixture = *state;

	fixture->now += 51 * SECOND;
	assert_time(fixture->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x17, 0x06, 0x00});
}

static void setting_the_time_stores_an_offset(void **state)
{
	struct fixture *fixture = *state;

	set_time(fixture->rtc, (uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
	assert_time(fixture->rtc, (uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
	fixture->now += 3 * SECOND;
	assert_time(fixture->rtc, (uint8_t[]){0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01});
}

static void set_often(struct rtc *rtc, uint8_t index, uint8_t value)
{
	for (unsigned i = 0; i < 5000; i++)
		set(rtc, index, value);
}

static void a_year_that_cannot_be_leaves_the_century_alone(void **state)
{
	struct fixture *fixture = *state;

	set_often(fixture->rtc, 9, 0xff);
	assert_int_equal(get(fixture->rtc, 0x32), 0x20);
	set(fixture->rtc, 0xb, B_24_HOURS | B_BINARY);
	set_often(fixture->rtc, 9, 0xff);
	assert_int_equal(get(fixture->rtc, 0x32), 20);
	set(fixture->rtc, 0xb, B_24_HOURS | B_BINARY | B_SET);
	set_often(fixture->rtc, 9, 0xff);
	assert_int_equal(get(fixture->rtc, 0x32), 20);
}

static void the_date_ends_with_the_year_9999(void **state)
{
	struct fixture *fixture = *state;

	set_often(fixture->rtc, 8, 0xff); /* each time some years */
	assert_time(fixture->rtc, (uint8_t[]){0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
	fixture->now += 2 * SECOND;
	assert_time(fixture->rtc, (uint8_t[]){0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59});
	set_time(fixture->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x17, 0x05, 0x09});
	assert_time(fixture->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x17, 0x05, 0x09});
}

static void the_date_begins_with_the_year_0(void **state)
{
	struct fixture *fixture = *state;

	set_often(fixture->rtc, 8, 0); /* each time December of the year before */
	assert_time(fixture->rtc, (uint8_t[]){0, 0, 1, 1, 0, 0, 0});
	fixture->now -= 2 * SECOND;
	assert_time(fixture->rtc, (uint8_t[]){0, 0, 1, 1, 0, 0, 0});
}

static void the_offset_survives_a_reset(void **state)
{
	struct fixture *fixture = *state;

	set_time(fixture->rtc, (uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
	rtc_reset(fixture->rtc);
	assert_time(fixture->rtc, (uint8_t[]){0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
}

static void the_set_bit_stops_the_clock(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 0xb, B_24_HOURS | B_SET);
	fixture->now += 10 * SECOND;
	assert_int_equal(get(fixture->rtc, 0), 0x09);
	set(fixture->rtc, 0xb, B_24_HOURS);
	assert_int_equal(get(fixture->rtc, 0), 0x09);
	fixture->now += SECOND;
	assert_int_equal(get(fixture->rtc, 0), 0x10);
}

static void a_field_can_be_set_while_the_clock_runs(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 4, 0x08);
	assert_time(fixture->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x08, 0x05, 0x09});
}

static void nonsense_is_brought_into_range(void **state)
{
	struct fixture *fixture = *state;

	set_time(fixture->rtc, (uint8_t[]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
	set_time(fixture->rtc, (uint8_t[]){0, 0, 0, 0, 0, 0, 0});
	set(fixture->rtc, 0xb, B_BINARY | B_UPDATE | B_ALARM | B_PERIODIC);
	set_time(fixture->rtc, (uint8_t[]){0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
	for (uint8_t index = 0; index < 128; index++)
		get(fixture->rtc, index);
}

static void update_in_progress_covers_the_roll_over(void **state)
{
	struct fixture *fixture = *state;

	assert_false(get(fixture->rtc, 0xa) & UIP);
	fixture->now += SECOND - (int64_t)RTC_UPDATE_NS - 1;
	assert_false(get(fixture->rtc, 0xa) & UIP);
	fixture->now += 1;
	assert_true(get(fixture->rtc, 0xa) & UIP);
	fixture->now += (int64_t)RTC_UPDATE_NS - 1;
	assert_true(get(fixture->rtc, 0xa) & UIP);
	fixture->now += 1;
	assert_false(get(fixture->rtc, 0xa) & UIP);
}

static void memory_keeps_what_is_stored(void **state)
{
	struct fixture *fixture = *state;

	for (uint8_t index = 0x0e; index < 0x32; index++)
		set(fixture->rtc, index, (uint8_t)(index ^ 0x5a));
	rtc_reset(fixture->rtc);
	for (uint8_t index = 0x0e; index < 0x32; index++)
		assert_int_equal(get(fixture->rtc, index), index ^ 0x5a);
}

static void the_index_ignores_the_nmi_mask(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 0x40, 0x77);
	assert_int_equal(get(fixture->rtc, 0x40 | 0x80), 0x77);
}

static void the_battery_is_good_and_status_registers_are_read_only(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 0xd, 0);
	set(fixture->rtc, 0xc, 0xff);
	assert_int_equal(get(fixture->rtc, 0xd), 0x80);
	assert_int_equal(get(fixture->rtc, 0xc) & C_REQUEST, 0);
}

static void the_update_flag_can_be_polled(void **state)
{
	struct fixture *fixture = *state;

	get(fixture->rtc, 0xc);
	assert_int_equal(get(fixture->rtc, 0xc) & B_UPDATE, 0);
	fixture->now += SECOND;
	assert_int_equal(get(fixture->rtc, 0xc) & B_UPDATE, B_UPDATE);
	assert_int_equal(get(fixture->rtc, 0xc) & B_UPDATE, 0);
}

static void the_alarm_flag_is_set_at_its_time(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 5, 0x17);
	set(fixture->rtc, 3, 0x06);
	set(fixture->rtc, 1, 0x30);
	fixture->now += 80 * SECOND; /* 17:06:29 */
	assert_int_equal(get(fixture->rtc, 0xc) & B_ALARM, 0);
	fixture->now += 5 * SECOND; /* past it, unobserved */
	assert_int_equal(get(fixture->rtc, 0xc) & B_ALARM, B_ALARM);
	fixture->now += 100 * SECOND;
	assert_int_equal(get(fixture->rtc, 0xc) & B_ALARM, 0);
}

static void the_alarm_has_wild_cards(void **state)
{
	struct fixture *fixture = *state;

	set(fixture->rtc, 5, 0xff);
	set(fixture->rtc, 3, 0xc0);
	set(fixture->rtc, 1, 0x12);
	for (unsigned minute = 0; minute < 3; minute++) {
		fixture->now += 60 * SECOND;
		assert_int_equal(get(fixture->rtc, 0xc) & B_ALARM, B_ALARM);
	}
}

static void enabling_an_interrupt_that_is_due_raises_it(void **state)
{
	struct fixture *fixture = *state;

	fixture->now += SECOND;
	set(fixture->rtc, 0xb, B_24_HOURS | B_UPDATE);

	assert_true(interrupted(fixture->rtc));
	assert_int_equal(get(fixture->rtc, 0xc) & (C_REQUEST | B_UPDATE), C_REQUEST | B_UPDATE);
	assert_false(interrupted(fixture->rtc));
}

/* With the real clock and its timer. */

struct live {
	struct event_loop *loop;
	struct rtc *rtc;
	pthread_t thread;
	atomic_uint looks; /* at the clock */
};

static int64_t counted_now(void *opaque)
{
	struct live *live = opaque;
	struct timespec now;

	atomic_fetch_add(&live->looks, 1);
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}

static void *run_loop(void *opaque)
{
	event_loop_run(opaque);
	return NULL;
}

static int start_live(void **state, bool counted)
{
	static struct live live;
	const struct rtc_clock clock = {.opaque = &live, .now_ns = counted_now};

	*state = &live;
	if (event_loop_create(&live.loop) ||
	    rtc_create(live.loop, counted ? &clock : NULL, &live.rtc))
		return -1;
	return thread_start(&live.thread, "io", run_loop, live.loop);
}

static int setup_live(void **state)
{
	return start_live(state, false);
}

static int setup_counted(void **state)
{
	return start_live(state, true);
}

static int teardown_live(void **state)
{
	struct live *live = *state;

	event_loop_stop(live->loop);
	pthread_join(live->thread, NULL);
	rtc_destroy(live->rtc);
	event_loop_destroy(live->loop);
	return 0;
}

static bool wait_interrupt(struct live *live, int timeout_ms)
{
	struct pollfd interrupt = {.fd = rtc_irq_fd(live->rtc), .events = POLLIN};

	return poll(&interrupt, 1, timeout_ms) == 1 && interrupted(live->rtc);
}

/* time(2) lags behind by up to a tick. */
static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static void shows_the_hosts_time(void **state)
{
	struct live *live = *state;
	time_t before = seconds_now(), after, shown;
	struct tm tm = {0};

	set(live->rtc, 0xb, B_24_HOURS | B_BINARY);
	do {
		while (get(live->rtc, 0xa) & UIP)
			;
		tm.tm_year = get(live->rtc, 0x32) * 100 + get(live->rtc, 9) - 1900;
		tm.tm_mon = get(live->rtc, 8) - 1;
		tm.tm_mday = get(live->rtc, 7);
		tm.tm_hour = get(live->rtc, 4);
		tm.tm_min = get(live->rtc, 2);
		tm.tm_sec = get(live->rtc, 0);
	} while (tm.tm_sec != get(live->rtc, 0));
	shown = timegm(&tm);
	after = seconds_now();

	assert_true(shown >= before && shown <= after);
}

static void interrupts_at_the_next_second(void **state)
{
	struct live *live = *state;

	set(live->rtc, 0xb, B_24_HOURS | B_UPDATE);

	assert_true(wait_interrupt(live, 3000));
	assert_true(get(live->rtc, 0xc) & B_UPDATE);
	assert_true(wait_interrupt(live, 3000));
}

static void interrupts_at_the_alarm(void **state)
{
	struct live *live = *state;

	set_time(live->rtc, (uint8_t[]){0x20, 0x26, 0x11, 0x20, 0x23, 0x59, 0x58});
	set(live->rtc, 5, 0x00);
	set(live->rtc, 3, 0x00);
	set(live->rtc, 1, 0x00);
	set(live->rtc, 0xb, B_24_HOURS | B_ALARM);

	assert_true(wait_interrupt(live, 5000));
	assert_true(get(live->rtc, 0xc) & B_ALARM);
	assert_int_equal(get(live->rtc, 7), 0x21);
}

static void interrupts_periodically(void **state)
{
	struct live *live = *state;

	set(live->rtc, 0xa, 0x2a); /* 64 Hz */
	set(live->rtc, 0xb, B_24_HOURS | B_PERIODIC);

	for (unsigned i = 0; i < 8; i++) {
		assert_true(wait_interrupt(live, 2000));
		assert_true(get(live->rtc, 0xc) & B_PERIODIC);
	}
	set(live->rtc, 0xb, B_24_HOURS);
	interrupted(live->rtc);
	assert_false(wait_interrupt(live, 50));
}

/* A guest that never looks must not cost the host a wake-up each period. */
static void rests_until_the_interrupt_is_seen(void **state)
{
	struct live *live = *state;
	unsigned looks;

	set(live->rtc, 0xa, 0x26); /* 1024 Hz */
	set(live->rtc, 0xb, B_24_HOURS | B_PERIODIC);
	assert_true(wait_interrupt(live, 2000));
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	looks = atomic_load(&live->looks);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	assert_int_equal(atomic_load(&live->looks), looks);

	assert_true(get(live->rtc, 0xc) & B_PERIODIC);
	assert_true(wait_interrupt(live, 2000));
}

int main(void)
{
#define RTC_TEST(test)  cmocka_unit_test_setup_teardown(test, setup, teardown)
#define LIVE_TEST(test) cmocka_unit_test_setup_teardown(test, setup_live, teardown_live)
	const struct CMUnitTest tests[] = {
		RTC_TEST(shows_utc_in_bcd_and_24_hours),
		RTC_TEST(shows_binary_on_demand),
		RTC_TEST(shows_twelve_hours_on_demand),
		RTC_TEST(goes_on_with_the_host),
		RTC_TEST(setting_the_time_stores_an_offset),
		RTC_TEST(a_year_that_cannot_be_leaves_the_century_alone),
		RTC_TEST(the_date_ends_with_the_year_9999),
		RTC_TEST(the_date_begins_with_the_year_0),
		RTC_TEST(the_offset_survives_a_reset),
		RTC_TEST(the_set_bit_stops_the_clock),
		RTC_TEST(a_field_can_be_set_while_the_clock_runs),
		RTC_TEST(nonsense_is_brought_into_range),
		RTC_TEST(update_in_progress_covers_the_roll_over),
		RTC_TEST(memory_keeps_what_is_stored),
		RTC_TEST(the_index_ignores_the_nmi_mask),
		RTC_TEST(the_battery_is_good_and_status_registers_are_read_only),
		RTC_TEST(the_update_flag_can_be_polled),
		RTC_TEST(the_alarm_flag_is_set_at_its_time),
		RTC_TEST(the_alarm_has_wild_cards),
		RTC_TEST(enabling_an_interrupt_that_is_due_raises_it),
		LIVE_TEST(shows_the_hosts_time),
		LIVE_TEST(interrupts_at_the_next_second),
		LIVE_TEST(interrupts_at_the_alarm),
		LIVE_TEST(interrupts_periodically),
		cmocka_unit_test_setup_teardown(rests_until_the_interrupt_is_seen, setup_counted,
						teardown_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
