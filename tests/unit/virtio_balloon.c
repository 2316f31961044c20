/* virtio-balloon over real rings: what goes into the balloon really leaves the host's memory. */
#include "devices/virtio_balloon.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <time.h>

#include "virtio_driver.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/base/size.h"

#define RAM   (8 * MIB)
#define PAGES (RAM / GUEST_PAGE_SIZE)

#define INFLATE_QUEUE 0
#define DEFLATE_QUEUE 1
#define STATS_QUEUE   2

#define STATS_VQ  VIRTIO_FEATURE(1)
#define REPORTING VIRTIO_FEATURE(5)

#define NUM_PAGES 0 /* offsets in the configuration space */
#define ACTUAL    4

#define BUFFER   VIRTIO_DRIVER_DATA
#define PAGE(n)  (4 * MIB + (n)*GUEST_PAGE_SIZE) /* the n-th page that a test may fill */
#define PFN(n)   ((uint32_t)(PAGE(n) / GUEST_PAGE_SIZE))
#define TAG(n)   (n) & 0xff, (n) >> 8
#define VALUE(n) (n), 0, 0, 0, 0, 0, 0, 0

struct fixture {
	struct virtio_driver driver;
	struct virtio_device *device;
};

static int setup(void **state)
{
	static struct fixture f;

	virtio_driver_setup(&f.driver, RAM);
	assert_int_equal(virtio_balloon_create(f.driver.memory, f.driver.loop, &f.device), 0);
	virtio_driver_attach(&f.driver, f.device);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_driver_teardown(&f->driver);
	return 0;
}

static struct fixture *start(void **state, uint64_t features)
{
	struct fixture *f = *state;

	virtio_driver_start(&f->driver, features);
	return f;
}

static void fill_pages(struct fixture *f, unsigned first, unsigned count)
{
	assert_int_equal(
		guest_memory_fill(f->driver.memory, PAGE(first), 0x5a, count * GUEST_PAGE_SIZE), 0);
}

static bool is_zero(struct fixture *f, unsigned page)
{
	static const uint8_t zeros[GUEST_PAGE_SIZE];
	uint8_t data[GUEST_PAGE_SIZE];

	ring_read(&f->driver.rings[0], PAGE(page), data, sizeof(data));
	return memcmp(data, zeros, sizeof(data)) == 0;
}

static uint64_t allocated(struct fixture *f)
{
	uint64_t bytes = 0;

	assert_int_equal(guest_memory_allocated(f->driver.memory, &bytes), 0);
	return bytes;
}

static struct virtio_balloon_status get_status(struct fixture *f)
{
	struct virtio_balloon_status status;

	virtio_balloon_get_status(f->device, &status);
	return status;
}

static void put_buffer(struct fixture *f, unsigned queue, const void *data, uint32_t length)
{
	const struct ring_buffer buffer = {BUFFER, length, false};

	ring_write(&f->driver.rings[queue], BUFFER, data, length);
	ring_add(&f->driver.rings[queue], &buffer, 1);
	virtio_driver_kick(&f->driver, queue);
}

static void wait_used(struct fixture *f, unsigned queue)
{
	uint16_t head;
	uint32_t written;

	assert_true(virtio_driver_wait_used(&f->driver, queue, &head, &written));
	assert_int_equal(written, 0);
}

static void send_pfns(struct fixture *f, unsigned queue, const uint32_t *pfns, size_t count)
{
	put_buffer(f, queue, pfns, (uint32_t)(count * sizeof(*pfns)));
	wait_used(f, queue);
}

/* Waits up to 5 s until the device has taken the statistics. */
static struct virtio_balloon_status send_stats(struct fixture *f, const void *data, uint32_t length)
{
	uint64_t deadline = clock_monotonic_ns() + 5 * NS_PER_SEC;
	struct virtio_balloon_status status;

	put_buffer(f, STATS_QUEUE, data, length);
	do {
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		status = get_status(f);
	} while (!status.stats_valid && clock_monotonic_ns() < deadline);
	return status;
}

static void inflating_frees_the_pages(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PFN(3), PFN(1), PFN(2), PFN(9)};
	uint64_t before;

	fill_pages(f, 0, 16);
	before = allocated(f);
	send_pfns(f, INFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));

	assert_int_equal(get_status(f).inflated_bytes, 4 * GUEST_PAGE_SIZE);
	/* The buffer's own page may be new. */
	assert_true(allocated(f) <= before - 3 * GUEST_PAGE_SIZE);
	for (unsigned page = 0; page < 16; page++)
		assert_int_equal(is_zero(f, page), page == 9 || (page >= 1 && page <= 3));
}

static void inflating_twice_is_harmless(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PFN(1), PFN(1), PFN(2), PFN(1)};

	fill_pages(f, 0, 4);
	send_pfns(f, INFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));
	send_pfns(f, INFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));

	assert_int_equal(get_status(f).inflated_bytes, 2 * 2 * GUEST_PAGE_SIZE);
	assert_false(is_zero(f, 0));
	assert_true(is_zero(f, 1));
	assert_true(is_zero(f, 2));
	assert_false(is_zero(f, 3));
}

static void many_pages_in_several_segments(void **state)
{
	struct fixture *f = start(state, 0);
	struct ring *ring = &f->driver.rings[INFLATE_QUEUE];
	uint32_t pfns[600];
	const struct ring_buffer buffers[] = {
		{BUFFER, 1001, false}, /* a number is split */
		{BUFFER + 1001, 399, false},
		{BUFFER + 1400, 1000, false},
	};

	for (unsigned i = 0; i < 600; i++)
		pfns[i] = PFN(599 - i);
	fill_pages(f, 0, 601);
	ring_write(ring, BUFFER, pfns, sizeof(pfns));
	ring_add(ring, buffers, 3);
	virtio_driver_kick(&f->driver, INFLATE_QUEUE);
	wait_used(f, INFLATE_QUEUE);

	assert_int_equal(get_status(f).inflated_bytes, 600 * GUEST_PAGE_SIZE);
	assert_true(is_zero(f, 0));
	assert_true(is_zero(f, 599));
	assert_false(is_zero(f, 600));
}

static void pages_outside_ram_are_passed_over(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PAGES, UINT32_MAX, PFN(1), PAGES + 1, 0x80000000u, UINT32_MAX - 1};

	fill_pages(f, 0, 3);
	send_pfns(f, INFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));

	assert_int_equal(get_status(f).inflated_bytes, GUEST_PAGE_SIZE);
	assert_false(is_zero(f, 0));
	assert_true(is_zero(f, 1));
	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_DRIVER_OK));
}

static void a_run_ends_at_the_end_of_ram(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PAGES - 2, PAGES - 1, PAGES};

	send_pfns(f, INFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));

	assert_int_equal(get_status(f).inflated_bytes, 2 * GUEST_PAGE_SIZE);
}

static void odd_bytes_are_passed_over(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PFN(1), PFN(2)};

	put_buffer(f, INFLATE_QUEUE, pfns, 7);
	wait_used(f, INFLATE_QUEUE);

	assert_int_equal(get_status(f).inflated_bytes, GUEST_PAGE_SIZE);
}

static void a_request_beyond_all_measure_breaks_the_device(void **state)
{
	static uint32_t pfns[4097];
	struct fixture *f = start(state, 0);

	for (unsigned i = 0; i < ARRAY_SIZE(pfns); i++)
		pfns[i] = PFN(1);
	fill_pages(f, 0, 3);
	send_pfns(f, INFLATE_QUEUE, pfns, 4096);
	assert_true(is_zero(f, 1));

	put_buffer(f, INFLATE_QUEUE, pfns, sizeof(pfns));
	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	assert_int_equal(get_status(f).inflated_bytes, 16 * GUEST_PAGE_SIZE);
}

/* A turn on this thread; how many requests it served. The loop's own turns follow afterwards. */
static unsigned serve_one_turn(struct fixture *f, unsigned queue)
{
	pthread_mutex_lock(&f->device->lock);
	f->device->ops->serve_queue(f->device, queue);
	pthread_mutex_unlock(&f->device->lock);
	return ring_used_index(&f->driver.rings[queue]);
}

#define REQUESTS 14

static void a_turn_serves_some_requests_and_comes_back(void **state)
{
	struct fixture *f = start(state, 0);
	const struct ring_buffer buffer = {BUFFER, 256 * sizeof(uint32_t), false};

	virtio_driver_stop_loop(&f->driver);
	for (unsigned i = 0; i < REQUESTS; i++)
		ring_add(&f->driver.rings[INFLATE_QUEUE], &buffer, 1);
	assert_in_range(serve_one_turn(f, INFLATE_QUEUE), 1, REQUESTS - 1);

	virtio_driver_start_loop(&f->driver); /* no kick from the driver is needed */
	for (unsigned i = 0; i < REQUESTS; i++)
		wait_used(f, INFLATE_QUEUE);
}

static void a_turn_serves_some_reports_and_comes_back(void **state)
{
	struct fixture *f = start(state, REPORTING | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	struct ring_buffer buffers[128];

	for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++)
		buffers[i] = (struct ring_buffer){PAGE(0), 2 * MIB, true};
	virtio_driver_stop_loop(&f->driver);
	for (unsigned i = 0; i < REQUESTS; i++) {
		struct ring *ring = &f->driver.rings[2];

		ring_publish(ring, ring_chain_indirect(ring, BUFFER, buffers, ARRAY_SIZE(buffers)));
	}
	assert_in_range(serve_one_turn(f, 2), 1, REQUESTS - 1);

	virtio_driver_start_loop(&f->driver);
	for (unsigned i = 0; i < REQUESTS; i++)
		wait_used(f, 2);
}

static void deflating_only_counts(void **state)
{
	struct fixture *f = start(state, 0);
	const uint32_t pfns[] = {PFN(1), UINT32_MAX, PFN(2)};

	fill_pages(f, 0, 4);
	send_pfns(f, DEFLATE_QUEUE, pfns, ARRAY_SIZE(pfns));

	assert_int_equal(get_status(f).deflated_bytes, 3 * GUEST_PAGE_SIZE);
	assert_int_equal(get_status(f).inflated_bytes, 0);
	assert_false(is_zero(f, 1));
}

static void target_raises_a_config_interrupt(void **state)
{
	struct fixture *f = start(state, 0);

	assert_int_equal(virtio_driver_read_config(&f->driver, NUM_PAGES, 4), 0);
	assert_int_equal(virtio_balloon_set_target(f->device, 3 * MIB + 100), 0);

	assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_CONFIG);
	assert_int_equal(virtio_driver_read_config(&f->driver, NUM_PAGES, 4), 3 * MIB / 4096);
	assert_int_equal(get_status(f).target_bytes, 3 * MIB);
}

static void target_beyond_ram_is_refused(void **state)
{
	struct fixture *f = start(state, 0);

	assert_int_equal(virtio_balloon_set_target(f->device, RAM + 1), -ERANGE);
	assert_int_equal(virtio_balloon_set_target(f->device, UINT64_MAX), -ERANGE);
	assert_int_equal(virtio_balloon_set_target(f->device, RAM), 0);
	assert_int_equal(get_status(f).target_bytes, RAM);
}

static void target_waits_for_the_driver(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(virtio_balloon_set_target(f->device, MIB), 0);
	start(state, 0);

	assert_int_equal(virtio_driver_read_config(&f->driver, NUM_PAGES, 4), 256);
}

static void driver_tells_what_it_gave(void **state)
{
	struct fixture *f = start(state, 0);

	virtio_driver_write_config(&f->driver, ACTUAL, 100, 4);
	assert_int_equal(get_status(f).actual_bytes, 100 * GUEST_PAGE_SIZE);
	assert_int_equal(virtio_driver_read_config(&f->driver, ACTUAL, 4), 100);
}

static void driver_cannot_give_more_than_ram(void **state)
{
	struct fixture *f = start(state, 0);

	virtio_driver_write_config(&f->driver, ACTUAL, UINT32_MAX, 4);
	assert_int_equal(get_status(f).actual_bytes, RAM);
}

static void driver_writes_nothing_but_actual(void **state)
{
	struct fixture *f = start(state, 0);

	virtio_driver_write_config(&f->driver, NUM_PAGES, 7, 4);
	virtio_driver_write_config(&f->driver, NUM_PAGES, 0x700000007ull, 8);
	virtio_driver_write_config(&f->driver, 6, 7, 4);
	virtio_driver_write_config(&f->driver, 8, 7, 4);
	virtio_driver_write_config(&f->driver, 0xf8, 7, 8);
	assert_int_equal(virtio_driver_read_config(&f->driver, NUM_PAGES, 8), 0);
	assert_int_equal(get_status(f).actual_bytes, 0);
}

static void statistics_are_read(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10), TAG(5), VALUE(20), TAG(6), VALUE(30)};
	struct virtio_balloon_status status;

	assert_false(get_status(f).stats_valid);
	status = send_stats(f, stats, sizeof(stats));

	assert_true(status.stats_valid);
	assert_int_equal(status.stats_present, 1u << 4 | 1u << 5 | 1u << 6);
	assert_int_equal(status.stats[VIRTIO_BALLOON_STAT_FREE], 10);
	assert_int_equal(status.stats[VIRTIO_BALLOON_STAT_TOTAL], 20);
	assert_int_equal(status.stats[VIRTIO_BALLOON_STAT_AVAILABLE], 30);
	assert_true(status.stats_age_ns < 5 * NS_PER_SEC);
}

static void hostile_statistics_are_judged(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(0xffff), VALUE(1), TAG(16), VALUE(2), TAG(0), VALUE(3),
				 TAG(15),     VALUE(4), 5,       0,        1};
	struct virtio_balloon_status status = send_stats(f, stats, sizeof(stats));

	assert_int_equal(status.stats_present, 1u << 0 | 1u << 15);
	assert_int_equal(status.stats[VIRTIO_BALLOON_STAT_SWAP_IN], 3);
	assert_int_equal(status.stats[VIRTIO_BALLOON_STAT_DIRECT_RECLAIMS], 4);
}

static void oversized_statistics_are_cut(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10)};
	const struct ring_buffer buffer = {BUFFER, MIB, false};

	ring_write(&f->driver.rings[STATS_QUEUE], BUFFER, stats, sizeof(stats));
	ring_add(&f->driver.rings[STATS_QUEUE], &buffer, 1);
	virtio_driver_kick(&f->driver, STATS_QUEUE);
	while (!get_status(f).stats_valid)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);

	assert_int_equal(get_status(f).stats[VIRTIO_BALLOON_STAT_FREE], 10);
}

static void too_short_statistics_are_none(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10)};

	put_buffer(f, STATS_QUEUE, stats, 9);
	/* A second buffer sends the first one back. */
	put_buffer(f, STATS_QUEUE, stats, 3);
	wait_used(f, STATS_QUEUE);

	assert_false(get_status(f).stats_valid);
}

static void a_rebuilt_queue_gets_no_buffer_of_its_predecessor(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10)};

	send_stats(f, stats, sizeof(stats));
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_SEL, STATS_QUEUE);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_READY, 0);
	virtio_driver_setup_queue(&f->driver, STATS_QUEUE, 16);
	put_buffer(f, STATS_QUEUE, stats, sizeof(stats));
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);

	assert_int_equal(ring_used_index(&f->driver.rings[STATS_QUEUE]), 0);
	assert_true(get_status(f).stats_valid);
	put_buffer(f, STATS_QUEUE, stats, sizeof(stats)); /* sends the one before back */
	wait_used(f, STATS_QUEUE);
}

static void asking_late_sends_the_buffer_back(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10)};

	send_stats(f, stats, sizeof(stats));
	nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 50000000}, NULL);
	assert_int_equal(ring_used_index(&f->driver.rings[STATS_QUEUE]), 0);
	assert_true(get_status(f).stats_age_ns > NS_PER_SEC);

	wait_used(f, STATS_QUEUE);
	assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_VRING);
}

static void report_pages(struct fixture *f, unsigned queue)
{
	const struct ring_buffer buffers[] = {
		{PAGE(1), 2 * GUEST_PAGE_SIZE, true},
		{PAGE(5) + 1, 2 * GUEST_PAGE_SIZE, true}, /* one whole page inside */
		{PAGE(9) + 1, GUEST_PAGE_SIZE, true},     /* none */
	};

	fill_pages(f, 0, 12);
	ring_add(&f->driver.rings[queue], buffers, 3);
	virtio_driver_kick(&f->driver, queue);
	wait_used(f, queue);

	assert_int_equal(get_status(f).reported_bytes, 3 * GUEST_PAGE_SIZE);
	for (unsigned page = 0; page < 12; page++)
		assert_int_equal(is_zero(f, page), page == 1 || page == 2 || page == 6);
}

static void reported_pages_are_freed(void **state)
{
	/* Queue 4, as the specification numbers it. */
	report_pages(start(state, STATS_VQ | REPORTING), 4);
}

static void reported_pages_are_freed_as_linux_counts_queues(void **state)
{
	report_pages(start(state, STATS_VQ | REPORTING), 3);
}

static void reported_pages_are_freed_without_statistics(void **state)
{
	report_pages(start(state, REPORTING), 2);
}

static void readable_segments_are_not_reported_pages(void **state)
{
	struct fixture *f = start(state, STATS_VQ | REPORTING);
	const struct ring_buffer buffer = {PAGE(1), GUEST_PAGE_SIZE, false};

	fill_pages(f, 0, 3);
	ring_add(&f->driver.rings[3], &buffer, 1);
	virtio_driver_kick(&f->driver, 3);
	wait_used(f, 3);

	assert_int_equal(get_status(f).reported_bytes, 0);
	assert_false(is_zero(f, 1));
}

static void malformed_queue_breaks_the_device(void **state)
{
	struct fixture *f = start(state, 0);
	const struct ring_buffer buffer = {1ull << 40, 4, false};

	ring_add(&f->driver.rings[INFLATE_QUEUE], &buffer, 1);
	virtio_driver_kick(&f->driver, INFLATE_QUEUE);
	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
}

static void reset_forgets_the_driver_but_not_the_target(void **state)
{
	struct fixture *f = start(state, STATS_VQ);
	const uint8_t stats[] = {TAG(4), VALUE(10)};

	send_stats(f, stats, sizeof(stats));
	virtio_driver_write_config(&f->driver, ACTUAL, 100, 4);
	assert_int_equal(virtio_balloon_set_target(f->device, MIB), 0);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);

	assert_false(get_status(f).stats_valid);
	assert_int_equal(get_status(f).actual_bytes, 0);
	assert_int_equal(get_status(f).target_bytes, MIB);
	start(state, STATS_VQ);
	assert_true(send_stats(f, stats, sizeof(stats)).stats_valid);
}

static void offers_its_features(void **state)
{
	struct fixture *f = *state;

	/* STATS_VQ, DEFLATE_ON_OOM, PAGE_REPORTING; nothing else of its own. */
	assert_int_equal(virtio_driver_offered_features(&f->driver) & 0xff, 0x26);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offers_its_features),
		TEST(inflating_frees_the_pages),
		TEST(inflating_twice_is_harmless),
		TEST(many_pages_in_several_segments),
		TEST(pages_outside_ram_are_passed_over),
		TEST(a_run_ends_at_the_end_of_ram),
		TEST(odd_bytes_are_passed_over),
		TEST(a_request_beyond_all_measure_breaks_the_device),
		TEST(a_turn_serves_some_requests_and_comes_back),
		TEST(a_turn_serves_some_reports_and_comes_back),
		TEST(deflating_only_counts),
		TEST(target_raises_a_config_interrupt),
		TEST(target_beyond_ram_is_refused),
		TEST(target_waits_for_the_driver),
		TEST(driver_tells_what_it_gave),
		TEST(driver_cannot_give_more_than_ram),
		TEST(driver_writes_nothing_but_actual),
		TEST(statistics_are_read),
		TEST(hostile_statistics_are_judged),
		TEST(oversized_statistics_are_cut),
		TEST(too_short_statistics_are_none),
		TEST(a_rebuilt_queue_gets_no_buffer_of_its_predecessor),
		TEST(asking_late_sends_the_buffer_back),
		TEST(reported_pages_are_freed),
		TEST(reported_pages_are_freed_as_linux_counts_queues),
		TEST(reported_pages_are_freed_without_statistics),
		TEST(readable_segments_are_not_reported_pages),
		TEST(malformed_queue_breaks_the_device),
		TEST(reset_forgets_the_driver_but_not_the_target),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
