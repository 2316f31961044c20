/* What waits, what breaks and what goes away under a virtio-net. */
#include "virtio_net_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/log.h"

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

/* What the loop last was to wait for at the backend, in each test's device. */
static _Atomic uint32_t watched;

int __real_event_source_modify(struct event_source *source, uint32_t events);
int __wrap_event_source_modify(struct event_source *source, uint32_t events);

int __wrap_event_source_modify(struct event_source *source, uint32_t events)
{
	atomic_store(&watched, events);
	return __real_event_source_modify(source, events);
}

/* Waits until the backend is watched for @events: false if it does not become so. */
static bool waits_for(uint32_t events)
{
	for (unsigned naps = 0; naps < 250; naps++) {
		if (atomic_load(&watched) == events)
			return true;
		nap();
	}
	return false;
}

static void a_frame_waits_for_a_buffer(void **state)
{
	struct net_fixture *f =
		net_start(state, MERGEABLE | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));

	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 100);
	network_send(f, NULL, 2, 200);
	nap();
	driver_add_buffer(f, 0, 2048);
	driver_add_buffer(f, 1, 2048);
	virtio_driver_kick(&f->driver, RX);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 100);
	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 200);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 1, 100));
	assert_true(driver_has_frame(f, 1, HEADER_SIZE, 2, 200));
	assert_int_equal(net_counters(f).rx_dropped, 0);
}

static void the_backend_is_left_alone_without_buffers(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	unsigned receives;

	virtio_driver_kick(&f->driver, RX);
	for (unsigned i = 0; i < 10; i++)
		network_send(f, NULL, 1, 100);
	nap();
	receives = atomic_load(&f->receives);
	nap();

	assert_int_equal(atomic_load(&f->receives), receives);
	assert_in_range(receives, 1, 3);
}

static void a_frame_waits_until_its_buffers_are_enough(void **state)
{
	struct net_fixture *f =
		net_start(state, MERGEABLE | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	struct ring *ring = &f->driver.rings[RX];

	driver_add_buffer(f, 0, 1000);
	driver_add_buffer(f, 1, 1000);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 2500);
	nap();
	assert_int_equal(ring_used_index(ring), 0);
	/* The driver is to kick for the third one. */
	assert_int_equal(ring_available_event(ring), 2);
	driver_add_buffer(f, 2, 1000);
	virtio_driver_kick(&f->driver, RX);

	assert_int_equal(driver_wait_received(f), 1000);
	assert_int_equal(driver_wait_received(f), 1000);
	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 500);
	assert_int_equal(driver_header(f, 0).num_buffers, 3);
}

static void a_frame_too_long_for_its_buffer_is_dropped(void **state)
{
	struct net_fixture *f = net_start(state, 0);

	driver_add_buffer(f, 0, 1000);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 1000);
	network_send(f, NULL, 2, 1000 - HEADER_SIZE);

	assert_int_equal(driver_wait_received(f), 1000);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 2, 1000 - HEADER_SIZE));
	assert_int_equal(net_counters(f).rx_dropped, 1);
}

static void a_frame_too_long_for_all_buffers_is_dropped(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);

	for (unsigned n = 0; n < VIRTIO_DRIVER_QUEUE_SIZE; n++)
		driver_add_buffer(f, n, 100);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 1600);
	network_send(f, NULL, 2, 50);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 50);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 2, 50));
	assert_int_equal(net_counters(f).rx_dropped, 1);
}

/* The driver sends more than the socket takes, as many as the ring holds: how many. */
static unsigned stall(void **state)
{
	struct net_fixture *f = *state;
	const int small = 8192;
	unsigned sent = 0;

	assert_int_equal(setsockopt(f->backend.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
			 0);
	atomic_store(&watched, 0);
	net_start(state, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	for (; sent < VIRTIO_DRIVER_QUEUE_SIZE; sent++)
		driver_send(f, NULL, 1, 1500);
	assert_true(waits_for(EPOLLIN | EPOLLOUT));
	assert_in_range(net_counters(f).tx_frames, 1, sent - 1);
	return sent;
}

static void frames_wait_for_a_backend_that_takes_none(void **state)
{
	struct net_fixture *f = *state;
	unsigned sent = stall(state);
	uint8_t frame[2048];

	for (unsigned i = 0; i < sent; i++)
		assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 1500);
	assert_true(NET_WAIT(f, tx_frames, sent));
	assert_int_equal(net_counters(f).tx_dropped, 0);
}

static void a_backend_is_not_waited_for_when_the_queue_has_stopped(void **state)
{
	struct net_fixture *f = *state;
	uint8_t frame[2048];

	stall(state);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_SEL, TX);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_QUEUE_READY, 0);
	while (recv(f->network, frame, sizeof(frame), 0) > 0)
		;
	assert_true(waits_for(EPOLLIN));

	/* The queue comes back empty, and works. */
	virtio_driver_setup_queue(&f->driver, TX, VIRTIO_DRIVER_QUEUE_SIZE);
	driver_send(f, NULL, 7, 99);
	assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 99);
}

/* The driver's request makes the device ask for a reset. */
static void breaks(struct net_fixture *f, unsigned queue, const struct ring_buffer *buffers,
		   size_t count)
{
	ring_add(&f->driver.rings[queue], buffers, count);
	virtio_driver_kick(&f->driver, queue);
	if (queue == RX)
		network_send(f, NULL, 1, 100);
	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
}

static void works(struct net_fixture *f)
{
	uint8_t frame[2048];

	virtio_driver_start(&f->driver, MERGEABLE);
	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 77, 333);
	while (!driver_has_frame(f, 0, HEADER_SIZE, 77, 333)) {
		/* One of before may come first. */
		driver_wait_received(f);
		driver_add_buffer(f, 0, 2048);
		virtio_driver_kick(&f->driver, RX);
	}
	driver_send(f, NULL, 78, 444);
	while (network_receive(f, NULL, frame, sizeof(frame)) != 444)
		;
	assert_int_equal(frame[0], 78);
}

static void a_frame_without_a_whole_header_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffer = {TX_AREA, HEADER_SIZE - 1, false};

	breaks(f, TX, &buffer, 1);
	works(f);
}

static void a_frame_with_a_writable_part_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffers[] = {{TX_AREA, 100, false}, {RX_AREA, 100, true}};

	breaks(f, TX, buffers, 2);
	works(f);
}

static void an_empty_frame_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffers[] = {{TX_AREA, 0, false}, {TX_AREA, 0, false}};

	breaks(f, TX, buffers, 2);
	works(f);
}

static void a_frame_outside_memory_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffer = {~0ull - 50, 100, false};

	breaks(f, TX, &buffer, 1);
	works(f);
}

static void a_readable_receive_buffer_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffer = {RX_AREA, 2048, false};

	breaks(f, RX, &buffer, 1);
	works(f);
}

static void a_receive_buffer_smaller_than_the_header_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct ring_buffer buffer = {RX_AREA, HEADER_SIZE - 1, true};

	breaks(f, RX, &buffer, 1);
	works(f);
}

static void a_bad_buffer_in_the_midst_of_a_frame_breaks_the_device(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);

	driver_add_buffer(f, 0, 50);
	driver_add_buffer(f, 1, 50);
	ring_set_descriptor(&f->driver.rings[RX], 1, RX_AREA, 50, 0, 0); /* not writable */
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 100);

	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	works(f);
}

static void a_reset_forgets_what_waits(void **state)
{
	struct net_fixture *f = *state;
	const int small = 8192;

	assert_int_equal(setsockopt(f->backend.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)),
			 0);
	net_start(state, MERGEABLE);
	driver_add_buffer(f, 0, 1000);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 2500); /* waits for two more buffers */
	for (unsigned i = 0; i < VIRTIO_DRIVER_QUEUE_SIZE; i++)
		driver_send(f, NULL, 1, 1500); /* wait for the socket */
	nap();
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
	works(f);
}

static void resets_and_traffic_at_the_same_time_do_no_harm(void **state)
{
	struct net_fixture *f = *state;
	static uint8_t drain[NET_FRAME_MAX];

	for (unsigned round = 0; round < 200; round++) {
		net_start(state, round % 2 ? MERGEABLE : 0);
		for (unsigned n = 0; n < 4; n++)
			driver_add_buffer(f, n, 500);
		virtio_driver_kick(&f->driver, RX);
		if (round % 8 == 0) /* not more than the socket holds if no frame is received */
			network_send(f, NULL, 1, 700);
		driver_send(f, NULL, 1, 300 + round);
		while (recv(f->network, drain, sizeof(drain), 0) > 0)
			;
	}
	works(f);
}

static bool link_is_up(struct net_fixture *f)
{
	return virtio_driver_read_config(&f->driver, offsetof(struct virtio_net_config, status),
					 2) &
	       VIRTIO_NET_S_LINK_UP;
}

static void the_link_goes_down_with_the_backend(void **state)
{
	struct net_fixture *f = net_start(state, VIRTIO_FEATURE(VIRTIO_NET_F_STATUS));
	uint32_t written;
	uint16_t head;

	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	assert_true(link_is_up(f));
	close(f->network);
	f->network = -1;

	assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_CONFIG);
	assert_false(link_is_up(f));
	assert_false(net_counters(f).link_up);
	/* The ring goes on, so that the driver's shutdown does not hang. */
	driver_send(f, NULL, 1, 100);
	assert_true(virtio_driver_wait_used(&f->driver, TX, &head, &written));
	assert_int_equal(net_counters(f).tx_dropped, 1);
}

static void what_waits_for_the_backend_is_dropped_when_it_goes(void **state)
{
	struct net_fixture *f = *state;
	unsigned sent = stall(state);

	/* It finds no buffer: there is no reading up to the end. */
	network_send(f, NULL, 1, 100);
	assert_true(waits_for(EPOLLOUT));
	close(f->network);
	f->network = -1;

	assert_true(NET_WAIT(f, tx_dropped, sent - net_counters(f).tx_frames));
	assert_int_equal(ring_used_index(&f->driver.rings[TX]), sent);
}

static void what_came_before_the_end_is_delivered(void **state)
{
	struct net_fixture *f = net_start(state, 0);

	virtio_driver_stop_loop(&f->driver);
	driver_add_buffer(f, 0, 2048);
	driver_add_buffer(f, 1, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 100);
	close(f->network);
	f->network = -1;
	virtio_driver_start_loop(&f->driver);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 100);
	assert_true(NET_WAIT(f, rx_frames, 1));
}

static void a_backend_that_ends_before_the_driver_comes_is_a_link_down(void **state)
{
	struct net_fixture *f = *state;

	close(f->network);
	f->network = -1;
	while (net_counters(f).link_up)
		nap();
	net_start(state, VIRTIO_FEATURE(VIRTIO_NET_F_STATUS));
	assert_false(link_is_up(f));
}

static void a_turn_moves_some_frames_and_comes_back(void **state)
{
	struct net_fixture *f = *state;
	const struct ring_buffer buffer = {TX_AREA, HEADER_SIZE + 100, false};
	uint8_t frame[256];

	assert_true(virtio_driver_negotiate(&f->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	virtio_driver_setup_queue(&f->driver, RX, 16);
	virtio_driver_setup_queue(&f->driver, TX, 256);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0xf);
	virtio_driver_stop_loop(&f->driver);
	for (unsigned i = 0; i < 200; i++)
		ring_add(&f->driver.rings[TX], &buffer, 1);
	pthread_mutex_lock(&f->device->lock);
	f->device->ops->serve_queue(f->device, TX);
	pthread_mutex_unlock(&f->device->lock);
	assert_in_range(net_counters(f).tx_frames, 1, 199);

	virtio_driver_start_loop(&f->driver); /* no kick from the driver is needed */
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 100);
}

int main(void)
{
#define NET_TEST(test) cmocka_unit_test_setup_teardown(test, net_setup, net_teardown)
	const struct CMUnitTest tests[] = {
		NET_TEST(a_frame_waits_for_a_buffer),
		NET_TEST(the_backend_is_left_alone_without_buffers),
		NET_TEST(a_frame_waits_until_its_buffers_are_enough),
		NET_TEST(a_frame_too_long_for_its_buffer_is_dropped),
		NET_TEST(a_frame_too_long_for_all_buffers_is_dropped),
		NET_TEST(frames_wait_for_a_backend_that_takes_none),
		NET_TEST(a_backend_is_not_waited_for_when_the_queue_has_stopped),
		NET_TEST(a_frame_without_a_whole_header_breaks_the_device),
		NET_TEST(a_frame_with_a_writable_part_breaks_the_device),
		NET_TEST(an_empty_frame_breaks_the_device),
		NET_TEST(a_frame_outside_memory_breaks_the_device),
		NET_TEST(a_readable_receive_buffer_breaks_the_device),
		NET_TEST(a_receive_buffer_smaller_than_the_header_breaks_the_device),
		NET_TEST(a_bad_buffer_in_the_midst_of_a_frame_breaks_the_device),
		NET_TEST(a_reset_forgets_what_waits),
		NET_TEST(resets_and_traffic_at_the_same_time_do_no_harm),
		NET_TEST(the_link_goes_down_with_the_backend),
		NET_TEST(what_waits_for_the_backend_is_dropped_when_it_goes),
		NET_TEST(what_came_before_the_end_is_delivered),
		NET_TEST(a_backend_that_ends_before_the_driver_comes_is_a_link_down),
		NET_TEST(a_turn_moves_some_frames_and_comes_back),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
