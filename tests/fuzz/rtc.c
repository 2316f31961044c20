/* The clock: any register, at any time that a host may show. */
#include "devices/rtc.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

static int64_t now_ns(void *opaque)
{
	return *(int64_t *)opaque;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	int64_t now = 0;
	const struct rtc_clock clock = {.opaque = &now, .now_ns = now_ns};
	struct event_loop *loop;
	struct rtc *rtc;

	if (event_loop_create(&loop) || rtc_create(loop, &clock, &rtc))
		abort();
	while (fuzz_more(&input)) {
		switch (fuzz_u8(&input) & 3) {
		case 0:
			/* Within the years that a 64-bit time in nanoseconds has. */
			now = (int64_t)(fuzz_u64(&input) >> 2);
			break;
		case 1:
			rtc_bus_ops.write(rtc, 0, fuzz_u8(&input), 1);
			if (rtc_bus_ops.read(rtc, 1, 1) > 0xff)
				abort();
			break;
		case 2:
			rtc_bus_ops.write(rtc, 0, fuzz_u8(&input), 1);
			rtc_bus_ops.write(rtc, 1, fuzz_u64(&input), 1);
			break;
		default:
			event_loop_stop(loop);
			event_loop_run(loop);
			break;
		}
	}
	rtc_reset(rtc);
	rtc_destroy(rtc);
	event_loop_destroy(loop);
	return 0;
}
