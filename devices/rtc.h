/*
 * An MC146818 real-time clock with 128 bytes of CMOS memory (2 ports: index, data).
 *
 * The clock shows UTC from the host. Setting it stores an offset to the host's clock, which lasts
 * until rtc_destroy(); the host's clock is never touched. Years go from 0 to 9999; a date outside
 * becomes the first or the last there is. BCD or binary, 24 or 12 hours, century in register 0x32.
 * The update-in-progress flag is set for the last RTC_UPDATE_NS of each second: who sees it clear
 * can read all registers without a roll-over in between. Alarm, update and periodic interrupts go
 * to an eventfd (edge); a timer runs only while one of them is enabled and none waits to be seen.
 *
 * Any thread may call in; a lock inside guards the state.
 */
#ifndef EBB_DEVICES_RTC_H
#define EBB_DEVICES_RTC_H

#include <stdint.h>

#include "devices/bus.h"
#include "vmm/base/event_loop.h"

#define RTC_PORTS     2u
#define RTC_UPDATE_NS 2228000ull

struct rtc;

/* Where time comes from: nanoseconds since 1970 in UTC. */
struct rtc_clock {
	void *opaque;
	int64_t (*now_ns)(void *opaque);
};

/* @clock is copied; NULL: CLOCK_REALTIME. The timer is served by @loop. 0 or -errno. */
int rtc_create(struct event_loop *loop, const struct rtc_clock *clock, struct rtc **out);

/* The loop does not run. NULL is legal. */
void rtc_destroy(struct rtc *rtc);

/* What a machine reset does: interrupts off; time and memory stay. */
void rtc_reset(struct rtc *rtc);

/* The interrupt's eventfd. Owned by the clock. */
int rtc_irq_fd(const struct rtc *rtc);

/* RTC_PORTS byte ports; the bus device is the struct rtc. */
extern const struct bus_ops rtc_bus_ops;

#endif
