/* vsock with a guest that lies. What it is denied is its own loss; others go on. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_config.h>
#include <linux/virtio_vsock.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock_connection.h"
#include "devices/vsock_muxer.h"
#include "vmm/base/log.h"
#include "vsock_fixture.h"

#define PORT      1024u
#define HOST_PORT 77u

/* Whatever happened, the device still connects a guest with a host. */
static void assert_alive(struct vsock_fixture *fixture)
{
	int fd = host_connect(fixture);

	fixture->fwd_cnt = 0;
	connect_to_guest(fixture, fd, 5000);
	close(fd);
	guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, 5000);
}

/* @packet of an established connection ends it, on both sides. */
static void assert_it_resets(struct vsock_fixture *fixture, int fd,
			     const struct vsock_packet *packet, const void *data, size_t length)
{
	guest_send(fixture, packet, data, length);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	host_expect_end(fd);
	close(fd);
	assert_alive(fixture);
}

static void data_on_an_unknown_connection_is_answered_by_rst(void **state)
{
	struct vsock_fixture *fixture = *state;

	guest_send_data(fixture, PORT, HOST_PORT, "x", 1);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
}

static void all_but_requests_on_an_unknown_connection_are_answered_by_rst(void **state)
{
	struct vsock_fixture *fixture = *state;

	for (unsigned op = VIRTIO_VSOCK_OP_RESPONSE; op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST; op++) {
		if (op == VIRTIO_VSOCK_OP_RST)
			continue;
		guest_send_op(fixture, op, PORT, HOST_PORT);
		guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	}
}

static void an_rst_is_never_answered(void **state)
{
	struct vsock_fixture *fixture = *state;

	guest_send_op(fixture, VIRTIO_VSOCK_OP_RST, PORT, HOST_PORT);
	guest_expect_silence(fixture);
}

static void unknown_types_and_operations_are_answered_by_rst(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct vsock_packet packet = guest_packet(fixture, 99, PORT, HOST_PORT);

	guest_send(fixture, &packet, NULL, 0);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	packet.op = VIRTIO_VSOCK_OP_REQUEST;
	packet.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	guest_send(fixture, &packet, NULL, 0);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	assert_int_equal(packet.type, VIRTIO_VSOCK_TYPE_SEQPACKET);
}

static void packets_to_oneself_and_to_strangers_come_back_as_rst(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, HOST_PORT);

	packet.dst_cid = GUEST_CID;
	guest_send(fixture, &packet, NULL, 0);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT).src_cid, GUEST_CID);
	packet.dst_cid = 99;
	guest_send(fixture, &packet, NULL, 0);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT).src_cid, 99);
}

static void a_false_sender_is_ignored(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, HOST_PORT);

	packet.src_cid = VSOCK_HOST_CID;
	guest_send(fixture, &packet, NULL, 0);
	packet.src_cid = GUEST_CID | 1ull << 40;
	guest_send(fixture, &packet, NULL, 0);
	guest_expect_silence(fixture);
	assert_alive(fixture);
}

static void a_length_beyond_the_chain_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet = guest_packet(fixture, VIRTIO_VSOCK_OP_RW, PORT, host_port);

	packet.length = 5;
	guest_send(fixture, &packet, "1234", 4);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	/* The packet is no part of the connection, which goes on. */
	guest_send_data(fixture, PORT, host_port, "12345", 5);
	host_expect(fd, "12345", 5);
	close(fd);
}

static void more_than_the_buffer_in_one_packet_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet = guest_packet(fixture, VIRTIO_VSOCK_OP_RW, PORT, host_port);
	static uint8_t data[VSOCK_BUFFER_SIZE + 1];

	packet.length = sizeof(data);
	assert_it_resets(fixture, fd, &packet, data, sizeof(data));
}

static void sending_beyond_the_credit_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	static uint8_t data[32768];
	struct vsock_packet packet;

	/* The host does not read: what its socket does not take is bounded by the buffer. */
	for (unsigned i = 0; i < 1000; i++) {
		guest_send_data(fixture, PORT, host_port, data, sizeof(data));
		do {
			struct ring *ring = &fixture->driver.rings[0];

			packet.op = 0;
			if (ring_used_index(ring) != ring->next_used)
				assert_true(guest_receive(fixture, &packet, NULL));
		} while (packet.op == VIRTIO_VSOCK_OP_CREDIT_UPDATE);
		if (packet.op == VIRTIO_VSOCK_OP_RST)
			break;
	}
	assert_int_equal(packet.op, VIRTIO_VSOCK_OP_RST);
	close(fd);
	assert_alive(fixture);
}

static void credit_for_what_was_never_sent_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);

	packet.fwd_cnt = 1;
	assert_it_resets(fixture, fd, &packet, NULL, 0);
}

static void credit_of_a_packet_that_was_overtaken_is_ignored(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port;

	fixture->buf_alloc = 10;
	host_port = connect_to_guest(fixture, fd, PORT);
	host_send(fd, "0123456789", 10);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT).length, 10);
	guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_REQUEST, PORT);
	fixture->fwd_cnt = 10;
	guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);
	fixture->fwd_cnt = 4;
	guest_send_data(fixture, PORT, host_port, "late", 4);

	host_expect(fd, "late", 4);
	host_send(fd, "0123456789", 10);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT).length, 10);
	close(fd);
}

static void a_second_request_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, host_port);

	assert_it_resets(fixture, fd, &packet, NULL, 0);
}

static void a_second_response_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_RESPONSE, PORT, host_port);

	assert_it_resets(fixture, fd, &packet, NULL, 0);
}

static void data_instead_of_a_response_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	struct vsock_packet packet;

	host_send(fd, "CONNECT 1024\n", 13);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT);
	packet = guest_packet(fixture, VIRTIO_VSOCK_OP_RW, PORT, packet.src_port);
	packet.length = 1;
	assert_it_resets(fixture, fd, &packet, "x", 1);
}

static void data_after_the_end_resets(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);

	packet.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	guest_send(fixture, &packet, NULL, 0);
	packet.op = VIRTIO_VSOCK_OP_RW;
	packet.length = 1;
	assert_it_resets(fixture, fd, &packet, "x", 1);
}

static void shutdown_flags_of_the_future_are_passed_over(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);

	packet.flags = 0xfffffffc;
	guest_send(fixture, &packet, NULL, 0);
	guest_expect_silence(fixture);
	guest_send_data(fixture, PORT, host_port, "x", 1);
	host_expect(fd, "x", 1);
	close(fd);
}

static void chains_too_short_for_a_header_are_passed_over(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct ring *ring = &fixture->driver.rings[1];
	const struct ring_buffer chains[] = {
		{VIRTIO_DRIVER_DATA, 0, false},
		{VIRTIO_DRIVER_DATA, VSOCK_HEADER_SIZE - 1, false},
		{VIRTIO_DRIVER_DATA, 4096, true}, /* nothing to read at all */
	};

	for (size_t i = 0; i < 3; i++) {
		uint16_t head;
		uint32_t written;

		ring_add(ring, &chains[i], 1);
		virtio_driver_kick(&fixture->driver, 1);
		assert_true(virtio_driver_wait_used(&fixture->driver, 1, &head, &written));
		assert_int_equal(written, 0);
	}
	guest_expect_silence(fixture);
	assert_alive(fixture);
}

static void a_header_in_pieces_is_put_together(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct ring *ring = &fixture->driver.rings[1];
	const struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, HOST_PORT);
	uint8_t header[VSOCK_HEADER_SIZE];
	struct ring_buffer pieces[4];

	vsock_packet_encode(&packet, header);
	for (unsigned i = 0; i < 4; i++) {
		pieces[i] =
			(struct ring_buffer){VIRTIO_DRIVER_DATA + 0x90000 + i * 0x1000, 11, false};
		ring_write(ring, pieces[i].gpa, header + i * 11, 11);
	}
	ring_add(ring, pieces, 4);
	virtio_driver_kick(&fixture->driver, 1);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
}

static void receive_buffers_without_room_need_a_reset(void **state)
{
	struct vsock_fixture *fixture = *state;
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA, VSOCK_HEADER_SIZE, true};

	for (unsigned i = 0; i < RX_BUFFERS; i++) { /* use up the good ones */
		uint16_t head;
		uint32_t written;

		guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, HOST_PORT);
		assert_true(virtio_driver_wait_used(&fixture->driver, 0, &head, &written));
	}
	ring_add(&fixture->driver.rings[0], &buffer, 1);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, HOST_PORT);
	assert_true(virtio_driver_wait_status(&fixture->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	virtio_driver_start(&fixture->driver, 0);
	guest_give_buffers(fixture, RX_BUFFERS);
	assert_alive(fixture);
}

static void a_broken_queue_needs_a_reset(void **state)
{
	struct vsock_fixture *fixture = *state;
	const struct ring_buffer outside = {1ull << 40, 64, false};

	ring_add(&fixture->driver.rings[1], &outside, 1);
	virtio_driver_kick(&fixture->driver, 1);
	assert_true(virtio_driver_wait_status(&fixture->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	virtio_driver_start(&fixture->driver, 0);
	guest_give_buffers(fixture, RX_BUFFERS);
	assert_alive(fixture);
}

/* A guest that asks and asks without taking the answers is not listened to any more. */
static void answers_that_are_not_taken_are_bounded(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct ring *ring = &fixture->driver.rings[1];
	const struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_RW, PORT, HOST_PORT);
	const struct ring_buffer buffer = {VIRTIO_DRIVER_DATA + 0x90000, VSOCK_HEADER_SIZE, false};
	uint8_t header[VSOCK_HEADER_SIZE];
	unsigned answers = 0, taken = 0;
	uint16_t head;
	uint32_t written;

	vsock_packet_encode(&packet, header);
	ring_write(ring, buffer.gpa, header, sizeof(header));
	for (;;) {
		ring_add(ring, &buffer, 1);
		virtio_driver_kick(&fixture->driver, 1);
		usleep(1000);
		if (!ring_take_used(ring, &head, &written)) {
			usleep(100 * 1000);
			if (!ring_take_used(ring, &head, &written))
				break;
		}
		taken++;
		assert_true(taken < 10000);
	}
	assert_in_range(taken, VSOCK_REFUSALS_MAX, VSOCK_REFUSALS_MAX + RX_BUFFERS);
	while (answers <= taken) { /* the one that was not taken too */
		guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
		answers++;
	}
	assert_true(virtio_driver_wait_used(&fixture->driver, 1, &head, &written));
	guest_expect_silence(fixture);
}

static void connections_are_limited(void **state)
{
	struct vsock_fixture *fixture = *state;
	int listener = host_listen(fixture, HOST_PORT);
	struct rlimit limit;
	int fd;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur < VSOCK_CONNECTIONS_MAX + 100)
		skip();
	for (uint32_t i = 0; i < VSOCK_CONNECTIONS_MAX; i++) {
		guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT + i, HOST_PORT);
		guest_expect(fixture, VIRTIO_VSOCK_OP_RESPONSE, PORT + i);
	}
	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT - 1, HOST_PORT);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT - 1);
	fd = host_connect(fixture);
	host_expect_end(fd);
	close(fd);

	guest_send_op(fixture, VIRTIO_VSOCK_OP_RST, PORT, HOST_PORT); /* room for one */
	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT - 1, HOST_PORT);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RESPONSE, PORT - 1);
	close(listener);
}

static void without_descriptors_the_guest_is_reset_and_the_host_waits(void **state)
{
	struct vsock_fixture *fixture = *state;
	int listener = host_listen(fixture, HOST_PORT);
	struct rlimit old, none;
	int fd = host_connect(fixture);

	connect_to_guest(fixture, fd, PORT);
	close(fd);
	guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = old;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT + 1, HOST_PORT);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT + 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_alive(fixture);
	close(fd);
	close(listener);
}

int main(void)
{
#define VSOCK_TEST(test) cmocka_unit_test_setup_teardown(test, vsock_setup, vsock_teardown)
	const struct CMUnitTest tests[] = {
		VSOCK_TEST(data_on_an_unknown_connection_is_answered_by_rst),
		VSOCK_TEST(all_but_requests_on_an_unknown_connection_are_answered_by_rst),
		VSOCK_TEST(an_rst_is_never_answered),
		VSOCK_TEST(unknown_types_and_operations_are_answered_by_rst),
		VSOCK_TEST(packets_to_oneself_and_to_strangers_come_back_as_rst),
		VSOCK_TEST(a_false_sender_is_ignored),
		VSOCK_TEST(a_length_beyond_the_chain_resets),
		VSOCK_TEST(more_than_the_buffer_in_one_packet_resets),
		VSOCK_TEST(sending_beyond_the_credit_resets),
		VSOCK_TEST(credit_for_what_was_never_sent_resets),
		VSOCK_TEST(credit_of_a_packet_that_was_overtaken_is_ignored),
		VSOCK_TEST(a_second_request_resets),
		VSOCK_TEST(a_second_response_resets),
		VSOCK_TEST(data_instead_of_a_response_resets),
		VSOCK_TEST(data_after_the_end_resets),
		VSOCK_TEST(shutdown_flags_of_the_future_are_passed_over),
		VSOCK_TEST(chains_too_short_for_a_header_are_passed_over),
		VSOCK_TEST(a_header_in_pieces_is_put_together),
		VSOCK_TEST(receive_buffers_without_room_need_a_reset),
		VSOCK_TEST(a_broken_queue_needs_a_reset),
		VSOCK_TEST(answers_that_are_not_taken_are_bounded),
		VSOCK_TEST(connections_are_limited),
		VSOCK_TEST(without_descriptors_the_guest_is_reset_and_the_host_waits),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
