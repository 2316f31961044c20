#include "devices/rtc.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"

/* Registers; the other bytes are memory. */
#define REG_SECONDS       0x00u
#define REG_SECONDS_ALARM 0x01u
#define REG_MINUTES       0x02u
#define REG_MINUTES_ALARM 0x03u
#define REG_HOURS         0x04u
#define REG_HOURS_ALARM   0x05u
#define REG_WEEKDAY       0x06u
#define REG_DAY           0x07u
#define REG_MONTH         0x08u
#define REG_YEAR          0x09u
#define REG_A             0x0au
#define REG_B             0x0bu
#define REG_C             0x0cu
#define REG_D             0x0du
#define REG_CENTURY       0x32u

#define CMOS_SIZE 128u

#define A_UPDATE_IN_PROGRESS 0x80u
#define A_RATE               0x0fu
#define A_RESET              0x26u /* 32.768 kHz time base, 1024 Hz periodic rate */

#define B_SET      0x80u
#define B_PERIODIC 0x40u
#define B_ALARM    0x20u
#define B_UPDATE   0x10u
#define B_BINARY   0x04u
#define B_24_HOURS 0x02u

#define C_REQUEST 0x80u
#define C_SOURCES 0x70u /* at the same places as their enable bits in B */

#define D_VALID 0x80u

#define HOUR_PM         0x80u
#define ALARM_ANY       0xc0u /* this and above matches every value */
#define SECONDS_PER_DAY 86400
#define FIRST_SECOND    (-62167219200ll) /* 0000-01-01 00:00:00: four digits show no other year */
#define LAST_SECOND     253402300799ll   /* 9999-12-31 23:59:59 */
#define ALARM_RECHECK_S 60 /* no look farther ahead: it costs, and the host's clock may be set */

struct rtc {
	struct rtc_clock clock;
	struct event_source *source;
	int timer_fd;
	int irq_fd;
	pthread_mutex_t lock; /* guards the rest */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE];
	int64_t offset; /* the guest's clock minus the host's, seconds */
	struct tm held; /* the time while B_SET stops the clock */
	/* What the flags in C have taken account of. */
	int64_t seen_second;
	int64_t seen_period;
};

static int64_t host_now_ns(void *opaque)
{
	struct timespec now;

	(void)opaque;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * (int64_t)NS_PER_SEC + now.tv_nsec;
}

static int64_t now_ns(const struct rtc *rtc)
{
	return rtc->clock.now_ns(rtc->clock.opaque);
}

static int64_t second_in_range(int64_t second)
{
	if (second < FIRST_SECOND)
		return FIRST_SECOND;
	return second < LAST_SECOND ? second : LAST_SECOND;
}

/* The guest's seconds since 1970 when the host's clock says @now. */
static int64_t guest_second(const struct rtc *rtc, int64_t now)
{
	return second_in_range(now / (int64_t)NS_PER_SEC + rtc->offset);
}

/* The period of the periodic interrupt, or 0. */
static uint64_t period_ns(const struct rtc *rtc)
{
	unsigned rate = rtc->cmos[REG_A] & A_RATE;

	if (rate == 0)
		return 0;
	if (rate <= 2)
		rate += 7; /* 256 and 128 Hz, with this time base */
	return ((1ull << (rate - 1)) * NS_PER_SEC + 16384) / 32768;
}

static uint8_t encode(const struct rtc *rtc, int value)
{
	if (rtc->cmos[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)((value / 10) << 4 | value % 10);
}

static int decode(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->cmos[REG_B] & B_BINARY)
		return byte;
	return (byte >> 4) * 10 + (byte & 0xf);
}

static uint8_t encode_hour(const struct rtc *rtc, int hour)
{
	if (rtc->cmos[REG_B] & B_24_HOURS)
		return encode(rtc, hour);
	return encode(rtc, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct rtc *rtc, uint8_t byte)
{
	if (rtc->cmos[REG_B] & B_24_HOURS)
		return decode(rtc, byte);
	return decode(rtc, byte & (uint8_t)~HOUR_PM) % 12 + (byte & HOUR_PM ? 12 : 0);
}

static bool alarm_field_matches(uint8_t alarm, uint8_t value)
{
	return alarm >= ALARM_ANY || alarm == value;
}

static bool alarm_matches(const struct rtc *rtc, int64_t second)
{
	int of_day = (int)(second % SECONDS_PER_DAY);

	if (of_day < 0)
		of_day += SECONDS_PER_DAY;
	return alarm_field_matches(rtc->cmos[REG_SECONDS_ALARM], encode(rtc, of_day % 60)) &&
	       alarm_field_matches(rtc->cmos[REG_MINUTES_ALARM], encode(rtc, of_day / 60 % 60)) &&
	       alarm_field_matches(rtc->cmos[REG_HOURS_ALARM], encode_hour(rtc, of_day / 3600));
}

/* Seconds from @second to the first one behind it, up to @limit, that the alarm matches; 0: none.
 */
static int64_t seconds_to_alarm(const struct rtc *rtc, int64_t second, int64_t limit)
{
	for (int64_t ahead = 1; ahead <= limit && ahead <= SECONDS_PER_DAY; ahead++) {
		if (alarm_matches(rtc, second + ahead))
			return ahead;
	}
	return 0;
}

static bool clock_runs(const struct rtc *rtc)
{
	return !(rtc->cmos[REG_B] & B_SET);
}

/* Sets the flags for what has happened since the last time; an edge if that requests service. */
static void collect_flags(struct rtc *rtc, int64_t now)
{
	int64_t second = guest_second(rtc, now);
	uint64_t period = period_ns(rtc);
	uint8_t *flags = &rtc->cmos[REG_C];

	if (period && now / (int64_t)period != rtc->seen_period) {
		rtc->seen_period = now / (int64_t)period;
		*flags |= B_PERIODIC;
	}
	if (clock_runs(rtc) && second != rtc->seen_second) {
		*flags |= B_UPDATE;
		if (seconds_to_alarm(rtc, rtc->seen_second, second - rtc->seen_second))
			*flags |= B_ALARM;
		rtc->seen_second = second;
	}
	if ((*flags & rtc->cmos[REG_B] & C_SOURCES) && !(*flags & C_REQUEST)) {
		*flags |= C_REQUEST;
		eventfd_write(rtc->irq_fd, 1);
	}
}

/* Starts over after the time, the period or the alarm was changed: the past is no event. */
static void forget_past(struct rtc *rtc, int64_t now)
{
	uint64_t period = period_ns(rtc);

	rtc->seen_second = guest_second(rtc, now);
	rtc->seen_period = period ? now / (int64_t)period : 0;
}

/*
 * Nanoseconds until something that is enabled can happen; 0: nothing can. While a request has not
 * been seen, by a read of C, there is no further edge.
 */
static uint64_t next_event_ns(const struct rtc *rtc, int64_t now)
{
	uint64_t to_second = NS_PER_SEC - (uint64_t)(now % (int64_t)NS_PER_SEC);
	uint64_t period = period_ns(rtc), delay = 0;
	uint8_t enabled = rtc->cmos[REG_B];

	if (rtc->cmos[REG_C] & C_REQUEST)
		return 0;
	if (clock_runs(rtc) && (enabled & B_UPDATE)) {
		delay = to_second;
	} else if (clock_runs(rtc) && (enabled & B_ALARM)) {
		int64_t ahead = seconds_to_alarm(rtc, guest_second(rtc, now), ALARM_RECHECK_S);

		if (ahead == 0)
			ahead = ALARM_RECHECK_S;
		delay = (uint64_t)(ahead - 1) * NS_PER_SEC + to_second;
	}
	if (period && (enabled & B_PERIODIC)) {
		uint64_t to_period = period - (uint64_t)now % period;

		if (delay == 0 || to_period < delay)
			delay = to_period;
	}
	return delay;
}

static void arm_timer(struct rtc *rtc, int64_t now)
{
	uint64_t delay = next_event_ns(rtc, now);
	const struct itimerspec spec = {
		.it_value.tv_sec = (time_t)(delay / NS_PER_SEC),
		.it_value.tv_nsec = (long)(delay % NS_PER_SEC),
	};

	timerfd_settime(rtc->timer_fd, 0, &spec, NULL);
}

static void on_timer(void *opaque, uint32_t events)
{
	struct rtc *rtc = opaque;
	uint64_t expirations;
	int64_t now;

	(void)events;
	if (read(rtc->timer_fd, &expirations, sizeof(expirations)) < 0)
		return;
	pthread_mutex_lock(&rtc->lock);
	now = now_ns(rtc);
	collect_flags(rtc, now);
	arm_timer(rtc, now);
	pthread_mutex_unlock(&rtc->lock);
}

static void reset_registers(struct rtc *rtc)
{
	int64_t now = now_ns(rtc);

	rtc->index = 0;
	rtc->cmos[REG_A] = A_RESET;
	rtc->cmos[REG_B] = B_24_HOURS;
	rtc->cmos[REG_C] = 0;
	forget_past(rtc, now);
	arm_timer(rtc, now);
}

int rtc_create(struct event_loop *loop, const struct rtc_clock *clock, struct rtc **out)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int result;

	if (!rtc)
		return -ENOMEM;
	rtc->clock = clock ? *clock : (struct rtc_clock){.now_ns = host_now_ns};
	rtc->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rtc->irq_fd < 0) {
		result = -errno;
		goto free_rtc;
	}
	/* Not the loop's own kind of timer: vCPU threads arm it. */
	rtc->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (rtc->timer_fd < 0) {
		result = -errno;
		goto close_irq;
	}
	pthread_mutex_init(&rtc->lock, NULL);
	reset_registers(rtc);
	result = event_loop_add(loop, rtc->timer_fd, EPOLLIN, on_timer, rtc, &rtc->source);
	if (result)
		goto close_timer;
	*out = rtc;
	return 0;

close_timer:
	pthread_mutex_destroy(&rtc->lock);
	close(rtc->timer_fd);
close_irq:
	close(rtc->irq_fd);
free_rtc:
	free(rtc);
	return result;
}

void rtc_destroy(struct rtc *rtc)
{
	if (!rtc)
		return;
	event_source_remove(rtc->source);
	close(rtc->timer_fd);
	close(rtc->irq_fd);
	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	reset_registers(rtc);
	pthread_mutex_unlock(&rtc->lock);
}

int rtc_irq_fd(const struct rtc *rtc)
{
	return rtc->irq_fd;
}

static struct tm time_shown(const struct rtc *rtc, int64_t now)
{
	time_t second = guest_second(rtc, now);
	struct tm shown;

	if (!clock_runs(rtc) || !gmtime_r(&second, &shown))
		return rtc->held;
	return shown;
}

/* Makes the guest's clock show @tm now. Whatever the guest wrote is brought into range. */
static void set_time(struct rtc *rtc, struct tm tm, int64_t now)
{
	rtc->offset = second_in_range(timegm(&tm)) - now / (int64_t)NS_PER_SEC;
	forget_past(rtc, now);
}

static bool is_time_register(uint8_t index)
{
	switch (index) {
	case REG_SECONDS:
	case REG_MINUTES:
	case REG_HOURS:
	case REG_WEEKDAY:
	case REG_DAY:
	case REG_MONTH:
	case REG_YEAR:
	case REG_CENTURY:
		return true;
	default:
		return false;
	}
}

static uint8_t read_time(const struct rtc *rtc, uint8_t index, int64_t now)
{
	struct tm tm = time_shown(rtc, now);
	int year = tm.tm_year + 1900;

	switch (index) {
	case REG_SECONDS:
		return encode(rtc, tm.tm_sec);
	case REG_MINUTES:
		return encode(rtc, tm.tm_min);
	case REG_HOURS:
		return encode_hour(rtc, tm.tm_hour);
	case REG_WEEKDAY:
		return encode(rtc, tm.tm_wday + 1);
	case REG_DAY:
		return encode(rtc, tm.tm_mday);
	case REG_MONTH:
		return encode(rtc, tm.tm_mon + 1);
	case REG_YEAR:
		return encode(rtc, year % 100);
	default:
		return encode(rtc, year / 100);
	}
}

static void write_time(struct rtc *rtc, uint8_t index, uint8_t value, int64_t now)
{
	struct tm tm = time_shown(rtc, now);
	int year = tm.tm_year + 1900;

	switch (index) {
	case REG_SECONDS:
		tm.tm_sec = decode(rtc, value);
		break;
	case REG_MINUTES:
		tm.tm_min = decode(rtc, value);
		break;
	case REG_HOURS:
		tm.tm_hour = decode_hour(rtc, value);
		break;
	case REG_WEEKDAY:
		return; /* follows from the date */
	case REG_DAY:
		tm.tm_mday = decode(rtc, value);
		break;
	case REG_MONTH:
		tm.tm_mon = decode(rtc, value) - 1;
		break;
	case REG_YEAR:
		tm.tm_year = year / 100 * 100 + decode(rtc, value) % 100 - 1900;
		break;
	default:
		tm.tm_year = decode(rtc, value) % 100 * 100 + year % 100 - 1900;
		break;
	}
	if (clock_runs(rtc))
		set_time(rtc, tm, now);
	else
		rtc->held = tm;
}

static bool update_in_progress(const struct rtc *rtc, int64_t now)
{
	return clock_runs(rtc) &&
	       (uint64_t)(now % (int64_t)NS_PER_SEC) >= NS_PER_SEC - RTC_UPDATE_NS;
}

static uint8_t read_cmos(struct rtc *rtc, int64_t now)
{
	uint8_t value;

	if (is_time_register(rtc->index))
		return read_time(rtc, rtc->index, now);
	switch (rtc->index) {
	case REG_A:
		return rtc->cmos[REG_A] | (update_in_progress(rtc, now) ? A_UPDATE_IN_PROGRESS : 0);
	case REG_C:
		collect_flags(rtc, now);
		value = rtc->cmos[REG_C];
		rtc->cmos[REG_C] = 0;
		if (value & C_REQUEST)
			arm_timer(rtc, now);
		return value;
	case REG_D:
		return D_VALID;
	default:
		return rtc->cmos[rtc->index];
	}
}

static void write_b(struct rtc *rtc, uint8_t value, int64_t now)
{
	bool stops = value & ~rtc->cmos[REG_B] & B_SET;
	bool starts = ~value & rtc->cmos[REG_B] & B_SET;

	collect_flags(rtc, now);
	if (stops)
		rtc->held = time_shown(rtc, now);
	rtc->cmos[REG_B] = value;
	if (starts)
		set_time(rtc, rtc->held, now);
	collect_flags(rtc, now); /* what was enabled just now may be pending already */
}

static void write_cmos(struct rtc *rtc, uint8_t value, int64_t now)
{
	if (is_time_register(rtc->index)) {
		write_time(rtc, rtc->index, value, now);
		arm_timer(rtc, now);
		return;
	}
	switch (rtc->index) {
	case REG_A:
		collect_flags(rtc, now);
		rtc->cmos[REG_A] = value & (uint8_t)~A_UPDATE_IN_PROGRESS;
		forget_past(rtc, now);
		break;
	case REG_B:
		write_b(rtc, value, now);
		break;
	case REG_C:
	case REG_D:
		return; /* read-only */
	case REG_SECONDS_ALARM:
	case REG_MINUTES_ALARM:
	case REG_HOURS_ALARM:
		collect_flags(rtc, now);
		rtc->cmos[rtc->index] = value;
		break;
	default:
		rtc->cmos[rtc->index] = value;
		return;
	}
	arm_timer(rtc, now);
}

/* Two byte ports: the index (without the NMI mask in bit 7), then the data. */
static uint64_t rtc_read(void *opaque, uint64_t offset, unsigned size)
{
	struct rtc *rtc = opaque;
	uint64_t value;

	(void)size;
	pthread_mutex_lock(&rtc->lock);
	value = offset == 0 ? rtc->index : read_cmos(rtc, now_ns(rtc));
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

static void rtc_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
	struct rtc *rtc = opaque;

	pthread_mutex_lock(&rtc->lock);
	if (offset == 0)
		rtc->index = value % CMOS_SIZE;
	if (offset == 1)
		write_cmos(rtc, (uint8_t)value, now_ns(rtc));
	else if (size == 2) /* index and data at once */
		write_cmos(rtc, (uint8_t)(value >> 8), now_ns(rtc));
	pthread_mutex_unlock(&rtc->lock);
}

const struct bus_ops rtc_bus_ops = {
	.read = rtc_read,
	.write = rtc_write,
};
