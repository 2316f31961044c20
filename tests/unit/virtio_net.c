#include "virtio_net_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>

#include "vmm/base/log.h"

/* Buffers per frame in a test that looks at each value that a used index takes. */
#define PIECES     3u
#define USED_INDEX 2u

static _Atomic gpa_t watched_index;
static atomic_uint torn_frames;

int __real_guest_memory_store(const struct guest_memory *memory, gpa_t gpa, unsigned size,
			      uint64_t value);
int __wrap_guest_memory_store(const struct guest_memory *memory, gpa_t gpa, unsigned size,
			      uint64_t value);

int __wrap_guest_memory_store(const struct guest_memory *memory, gpa_t gpa, unsigned size,
			      uint64_t value)
{
	if (gpa && gpa == atomic_load(&watched_index) && value % PIECES)
		atomic_fetch_add(&torn_frames, 1);
	return __real_guest_memory_store(memory, gpa, size, value);
}

static void offers_what_the_backend_can_do(void **state)
{
	struct net_fixture *f = *state;
	uint64_t offered = virtio_driver_offered_features(&f->driver);

	assert_int_equal(offered & 0xffffffull, OFFLOADS | MERGEABLE |
							VIRTIO_FEATURE(VIRTIO_NET_F_MAC) |
							VIRTIO_FEATURE(VIRTIO_NET_F_STATUS) |
							VIRTIO_FEATURE(VIRTIO_NET_F_MTU));
}

static void configuration_tells_mac_link_and_mtu(void **state)
{
	struct net_fixture *f = *state;

	for (unsigned i = 0; i < VIRTIO_NET_MAC_BYTES; i++)
		assert_int_equal(virtio_driver_read_config(&f->driver, i, 1), net_mac[i]);
	assert_int_equal(virtio_driver_read_config(&f->driver,
						   offsetof(struct virtio_net_config, status), 2),
			 VIRTIO_NET_S_LINK_UP);
	assert_int_equal(
		virtio_driver_read_config(&f->driver, offsetof(struct virtio_net_config, mtu), 2),
		1400);
}

static void configuration_is_not_written_and_ends(void **state)
{
	struct net_fixture *f = *state;

	virtio_driver_write_config(&f->driver, 0, 0xffffffff, 4);
	assert_int_equal(virtio_driver_read_config(&f->driver, 0, 1), net_mac[0]);
	assert_int_equal(virtio_driver_read_config(&f->driver, 0x200, 4), 0);
}

static void sends_a_frame(void **state)
{
	struct net_fixture *f = net_start(state, 0);
	uint8_t frame[2048];
	uint32_t written;
	uint16_t head;

	driver_send(f, NULL, 3, 1000);

	assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 1000);
	assert_int_equal(frame[0], 3);
	assert_int_equal(frame[999], (uint8_t)(3 + 999));
	assert_true(virtio_driver_wait_used(&f->driver, TX, &head, &written));
	assert_int_equal(written, 0);
	assert_int_equal(net_counters(f).tx_frames, 1);
	assert_int_equal(net_counters(f).tx_bytes, 1000);
}

static void sends_a_frame_whose_header_and_data_are_in_pieces(void **state)
{
	struct net_fixture *f = net_start(state, VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	const struct ring_buffer buffers[] = {
		{TX_AREA, 5, false},
		{TX_AREA + 5, 7 + 1, false}, /* the header ends within */
		{TX_AREA + 13, 100, false},
		{TX_AREA + 113, 899, false},
	};
	struct ring *ring = &f->driver.rings[TX];
	uint8_t data[HEADER_SIZE + 1000], frame[2048];

	memset(data, 0, HEADER_SIZE);
	for (size_t i = HEADER_SIZE; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	ring_write(ring, TX_AREA, data, sizeof(data));
	ring_publish(ring, ring_chain_indirect(ring, RX_AREA, buffers, 4));
	virtio_driver_kick(&f->driver, TX);

	assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 1000);
	assert_memory_equal(frame, data + HEADER_SIZE, 1000);
}

static void the_backend_gets_the_header_that_was_judged(void **state)
{
	struct net_fixture *f = net_start(state, VIRTIO_FEATURE(VIRTIO_NET_F_CSUM) |
							 VIRTIO_FEATURE(VIRTIO_NET_F_HOST_TSO4));
	const struct virtio_net_hdr_v1 sent = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
		.num_buffers = 99,
	};
	struct virtio_net_hdr_v1 expected = sent, got;
	static uint8_t frame[NET_FRAME_MAX];

	expected.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	expected.num_buffers = 0;
	driver_send(f, &sent, 1, 60000);

	assert_int_equal(network_receive(f, &got, frame, sizeof(frame)), 60000);
	assert_memory_equal(&got, &expected, sizeof(got));
}

static void drops_frames_that_make_no_sense_and_goes_on(void **state)
{
	struct net_fixture *f = net_start(state, VIRTIO_FEATURE(VIRTIO_NET_F_CSUM));
	const struct virtio_net_hdr_v1 not_negotiated = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
	const struct virtio_net_hdr_v1 outside = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.csum_start = 0xffff,
		.csum_offset = 0xffff,
	};
	uint8_t frame[2048];

	driver_send(f, NULL, 1, 0);
	assert_true(NET_WAIT(f, tx_dropped, 1));
	driver_send(f, NULL, 1, 13);
	assert_true(NET_WAIT(f, tx_dropped, 2));
	driver_send(f, NULL, 1, NET_FRAME_MAX);
	assert_true(NET_WAIT(f, tx_dropped, 3));
	driver_send(f, &not_negotiated, 1, 5000);
	assert_true(NET_WAIT(f, tx_dropped, 4));
	driver_send(f, &outside, 1, 100);
	assert_true(NET_WAIT(f, tx_dropped, 5));
	assert_true(network_is_quiet(f));

	driver_send(f, NULL, 9, 60);
	assert_int_equal(network_receive(f, NULL, frame, sizeof(frame)), 60);
	assert_int_equal(net_counters(f).tx_frames, 1);
}

static void receives_a_frame(void **state)
{
	struct net_fixture *f = net_start(state, 0);

	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 1500);

	assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_VRING);
	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 1500);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 5, 1500));
	assert_int_equal(driver_header(f, 0).num_buffers, 1);
	assert_int_equal(net_counters(f).rx_frames, 1);
	assert_int_equal(net_counters(f).rx_bytes, 1500);
}

static void receives_a_frame_over_several_buffers(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);

	for (unsigned n = 0; n < 4; n++)
		driver_add_buffer(f, n, 1000);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 2500);

	assert_int_equal(driver_wait_received(f), 1000);
	assert_int_equal(driver_wait_received(f), 1000);
	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 500);
	assert_int_equal(driver_header(f, 0).num_buffers, 3);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 5, 1000 - HEADER_SIZE));
	assert_true(driver_has_frame(f, 1, 0, (uint8_t)(5 + 1000 - HEADER_SIZE), 1000));
	assert_true(driver_has_frame(f, 2, 0, (uint8_t)(5 + 2000 - HEADER_SIZE), 512));
	assert_int_equal(ring_used_index(&f->driver.rings[RX]), 3);
}

/* Section 5.1.6.4.1: a driver that sees one buffer of a frame as used sees them all. */
static void the_buffers_of_a_frame_are_used_together(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);

	for (unsigned n = 0; n < 2 * PIECES; n++)
		driver_add_buffer(f, n, 1000);
	atomic_store(&torn_frames, 0);
	atomic_store(&watched_index, f->driver.rings[RX].used + USED_INDEX);
	virtio_driver_kick(&f->driver, RX);
	for (unsigned frame = 1; frame <= 2; frame++) {
		network_send(f, NULL, 5, 2500);
		assert_true(NET_WAIT(f, rx_frames, frame));
	}
	atomic_store(&watched_index, 0);

	assert_int_equal(ring_used_index(&f->driver.rings[RX]), 2 * PIECES);
	assert_int_equal(atomic_load(&torn_frames), 0);
}

static void fills_every_segment_of_a_buffer(void **state)
{
	struct net_fixture *f = net_start(state, 0);
	const struct ring_buffer buffers[] = {
		{RX_AREA, 7, true},
		{RX_AREA + 7, 100, true},
		{RX_AREA + 107, 2000, true},
	};

	ring_add(&f->driver.rings[RX], buffers, 3);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 1500);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 1500);
	assert_int_equal(driver_header(f, 0).num_buffers, 1);
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 5, 1500));
}

static void leaves_alone_what_lies_behind_the_frame(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	uint8_t behind[64], zeros[64] = {0};

	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 5, 60);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 60);
	ring_read(&f->driver.rings[RX], RX_AREA + HEADER_SIZE + 60, behind, sizeof(behind));
	assert_memory_equal(behind, zeros, sizeof(behind));
}

static void the_driver_gets_checksum_and_segment_fields(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE | OFFLOADS);
	const struct virtio_net_hdr_v1 header = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
	struct virtio_net_hdr_v1 expected = header, got;

	driver_add_buffer(f, 0, 0x11000);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, &header, 5, 65000);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 65000);
	expected.num_buffers = 1;
	got = driver_header(f, 0);
	assert_memory_equal(&got, &expected, sizeof(got));
	assert_true(driver_has_frame(f, 0, HEADER_SIZE, 5, 65000));
}

static void drops_received_frames_that_the_driver_could_not_understand(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE);
	const struct virtio_net_hdr_v1 partial = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};

	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, &partial, 1, 100);
	network_send(f, NULL, 2, 200);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 200);
	assert_int_equal(net_counters(f).rx_dropped, 1);
}

static void the_backend_is_told_the_offloads_of_each_driver(void **state)
{
	struct net_fixture *f = net_start(state, MERGEABLE | OFFLOADS);

	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 2, 200);
	driver_wait_received(f);
	assert_int_equal(atomic_load(&f->offloads), OFFLOADS);

	/* TSO without checksums does not count. */
	net_start(state, VIRTIO_FEATURE(VIRTIO_NET_F_GUEST_TSO4));
	driver_add_buffer(f, 0, 2048);
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 2, 200);
	driver_wait_received(f);
	assert_int_equal(atomic_load(&f->offloads), 0);
}

static void interrupts_by_event_index(void **state)
{
	struct net_fixture *f = net_start(state, VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	struct ring *ring = &f->driver.rings[RX];

	for (unsigned n = 0; n < 3; n++)
		driver_add_buffer(f, n, 2048);
	ring_set_used_event(ring, 2); /* after the third */
	virtio_driver_kick(&f->driver, RX);
	network_send(f, NULL, 1, 100);
	driver_wait_received(f);
	network_send(f, NULL, 1, 100);
	driver_wait_received(f);
	assert_false(virtio_driver_interrupted(&f->driver));
	network_send(f, NULL, 1, 100);
	assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_VRING);
}

static void serves_what_was_added_before_driver_ok(void **state)
{
	struct net_fixture *f = *state;

	network_send(f, NULL, 7, 300);
	assert_true(virtio_driver_negotiate(&f->driver, VIRTIO_FEATURE(VIRTIO_F_VERSION_1)));
	virtio_driver_setup_queue(&f->driver, RX, 16);
	driver_add_buffer(f, 0, 2048);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0xf);

	assert_int_equal(driver_wait_received(f), HEADER_SIZE + 300);
}

int main(void)
{
#define NET_TEST(test) cmocka_unit_test_setup_teardown(test, net_setup, net_teardown)
	const struct CMUnitTest tests[] = {
		NET_TEST(offers_what_the_backend_can_do),
		NET_TEST(configuration_tells_mac_link_and_mtu),
		NET_TEST(configuration_is_not_written_and_ends),
		NET_TEST(sends_a_frame),
		NET_TEST(sends_a_frame_whose_header_and_data_are_in_pieces),
		NET_TEST(the_backend_gets_the_header_that_was_judged),
		NET_TEST(drops_frames_that_make_no_sense_and_goes_on),
		NET_TEST(receives_a_frame),
		NET_TEST(receives_a_frame_over_several_buffers),
		NET_TEST(the_buffers_of_a_frame_are_used_together),
		NET_TEST(fills_every_segment_of_a_buffer),
		NET_TEST(leaves_alone_what_lies_behind_the_frame),
		NET_TEST(the_driver_gets_checksum_and_segment_fields),
		NET_TEST(drops_received_frames_that_the_driver_could_not_understand),
		NET_TEST(the_backend_is_told_the_offloads_of_each_driver),
		NET_TEST(interrupts_by_event_index),
		NET_TEST(serves_what_was_added_before_driver_ok),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
