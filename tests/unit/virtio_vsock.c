/* vsock between a well-behaved guest and programs of the host on real Unix sockets. */
#include "devices/virtio_vsock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "devices/vsock_connection.h"
#include "devices/vsock_muxer.h"
#include "vmm/base/log.h"
#include "vsock_fixture.h"

#define PORT      1024u /* of the guest */
#define HOST_PORT 77u

static void the_configuration_space_tells_the_cid(void **state)
{
	struct vsock_fixture *fixture = *state;

	assert_int_equal(virtio_driver_read_config(&fixture->driver, 0, 8), GUEST_CID);
}

static void the_socket_is_the_owners_alone(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct stat info;

	assert_int_equal(stat(fixture->path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
}

static void a_path_in_use_is_refused(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct virtio_device *device;
	struct error err;

	assert_int_equal(virtio_vsock_create(fixture->driver.memory, fixture->driver.loop,
					     fixture->path, 3, &device, &err),
			 -EADDRINUSE);
	assert_non_null(strstr(err.text, fixture->path));
}

static void the_host_connects_and_bytes_flow_both_ways(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet;
	char data[4096];

	host_send(fd, "question", 8);
	assert_true(guest_receive(fixture, &packet, data));
	assert_int_equal(packet.op, VIRTIO_VSOCK_OP_RW);
	assert_true(packet.length == 8 && packet.src_port == host_port && packet.dst_port == PORT);
	assert_memory_equal(data, "question", 8);
	guest_send_data(fixture, PORT, host_port, "answer", 6);
	host_expect(fd, "answer", 6);
	close(fd);
}

static void what_follows_the_connect_line_is_for_the_guest(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	struct vsock_packet packet;
	char data[4096];

	host_send(fd, "conn", 4); /* in any case, and in pieces */
	host_send(fd, "ECT 1024\nearly", 14);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT);
	guest_expect_silence(fixture);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_RESPONSE, PORT, packet.src_port);
	assert_true(guest_receive(fixture, &packet, data));
	assert_int_equal(packet.length, 5);
	assert_memory_equal(data, "early", 5);
	close(fd);
}

static void a_line_that_is_no_connect_ends_the_connection(void **state)
{
	struct vsock_fixture *fixture = *state;
	static const char *const lines[] = {
		"CONNECT\n",
		"CONNECT x\n",
		"CONNECT 1 2\n",
		"CONNECT 4294967296\n",
		"CONNECT -1\n",
		"HELLO 5\n",
		"CONNECT 99999999999999999999999999999999\n",
		"CONNECT  5\n",
		"\n",
		"CONNECT 0x5\n",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int fd = host_connect(fixture);

		host_send(fd, lines[i], strlen(lines[i]));
		assert_true(recv(fd, &(char){0}, 1, 0) <= 0);
		close(fd);
	}
	guest_expect_silence(fixture);
}

static void a_guest_that_does_not_listen_ends_the_connection(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	struct vsock_packet request;

	host_send(fd, "CONNECT 1024\n", 13);
	request = guest_expect(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_RST, PORT, request.src_port);
	host_expect_end(fd);
	guest_expect_silence(fixture);
	close(fd);
}

static void without_a_driver_the_host_is_turned_away(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);

	virtio_driver_write(&fixture->driver, 0x70, 0);
	host_send(fd, "CONNECT 1024\n", 13);
	host_expect_end(fd);
	close(fd);
}

static void the_guest_connects_to_a_socket_of_the_host(void **state)
{
	struct vsock_fixture *fixture = *state;
	int listener = host_listen(fixture, HOST_PORT);
	int fd = connect_to_host(fixture, listener, PORT, HOST_PORT);
	struct vsock_packet packet;

	guest_send_data(fixture, PORT, HOST_PORT, "hello", 5);
	host_expect(fd, "hello", 5);
	host_send(fd, "you", 3);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT);
	assert_true(packet.length == 3 && packet.src_port == HOST_PORT);
	close(fd);
	close(listener);
}

static void a_port_that_nobody_listens_on_resets_the_guest(void **state)
{
	struct vsock_fixture *fixture = *state;
	struct vsock_packet packet;

	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, PORT, HOST_PORT);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	assert_int_equal(packet.src_port, HOST_PORT);
}

/* A stream in pieces of odd sizes, the guest's receive buffers being of 4096 bytes. */
static void a_stream_to_the_guest_arrives_whole(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	static uint8_t sent[3 * GUEST_BUF_ALLOC];
	uint8_t data[4096];
	uint64_t arrived = 0, offset = 0;

	fill_pattern(sent, sizeof(sent), 0);
	while (arrived < sizeof(sent)) {
		size_t piece = 1 + offset * 7919 % 8191;
		struct vsock_packet packet;

		if (piece > sizeof(sent) - offset)
			piece = sizeof(sent) - offset;
		if (piece)
			offset += (size_t)send(fd, sent + offset, piece, MSG_NOSIGNAL);
		assert_true(guest_receive(fixture, &packet, data));
		assert_int_equal(packet.op, VIRTIO_VSOCK_OP_RW);
		assert_true(is_pattern(data, packet.length, arrived));
		arrived += packet.length;
		fixture->fwd_cnt += packet.length;
		if (fixture->fwd_cnt % 5 == 0 || arrived % GUEST_BUF_ALLOC > GUEST_BUF_ALLOC / 2)
			guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);
	}
	close(fd);
}

static void a_stream_from_the_guest_arrives_whole(void **state)
{
	struct vsock_fixture *fixture = *state;
	int listener = host_listen(fixture, HOST_PORT);
	int fd = connect_to_host(fixture, listener, PORT, HOST_PORT);
	static uint8_t data[VSOCK_BUFFER_SIZE], received[VSOCK_BUFFER_SIZE];
	uint64_t sent = 0;
	uint32_t in_flight = 0;

	for (unsigned i = 0; i < 100; i++) {
		size_t piece = 1 + i * 4099 % 30011;
		struct vsock_packet packet;

		while (in_flight + piece > VSOCK_BUFFER_SIZE) {
			assert_true(guest_receive(fixture, &packet, NULL));
			assert_int_equal(packet.op, VIRTIO_VSOCK_OP_CREDIT_UPDATE);
			assert_int_equal(packet.buf_alloc, VSOCK_BUFFER_SIZE);
			in_flight = (uint32_t)sent - packet.fwd_cnt;
		}
		fill_pattern(data, piece, sent);
		guest_send_data(fixture, PORT, HOST_PORT, data, piece);
		assert_int_equal(recv(fd, received, piece, MSG_WAITALL), piece);
		assert_true(is_pattern(received, piece, sent));
		sent += piece;
		in_flight += (uint32_t)piece;
	}
	close(fd);
	close(listener);
}

static void without_credit_the_host_is_not_read(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port;
	struct vsock_packet packet;

	fixture->buf_alloc = 10;
	host_port = connect_to_guest(fixture, fd, PORT);
	host_send(fd, "0123456789abcdef", 16);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT);
	assert_int_equal(packet.length, 10);
	guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_REQUEST, PORT);
	guest_expect_silence(fixture); /* asked once */
	fixture->fwd_cnt = 4;
	guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT);
	assert_int_equal(packet.length, 4);
	close(fd);
}

static void a_guest_may_shrink_its_buffer(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);

	host_send(fd, "0123456789", 10);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT);
	fixture->buf_alloc = 5; /* less than is under way */
	guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);
	host_send(fd, "more", 4);
	guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_REQUEST, PORT);
	fixture->fwd_cnt = 10;
	guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT, host_port);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT).length, 4);
	close(fd);
}

static void a_credit_request_is_answered(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet;

	guest_send_data(fixture, PORT, host_port, "12345", 5);
	host_expect(fd, "12345", 5);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_REQUEST, PORT, host_port);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT);
	assert_int_equal(packet.buf_alloc, VSOCK_BUFFER_SIZE);
	assert_int_equal(packet.fwd_cnt, 5);
	close(fd);
}

/* Takes all CREDIT_UPDATEs that wait; the newest fwd_cnt, or @known if there is none. */
static uint32_t newest_credit(struct vsock_fixture *fixture, uint32_t known)
{
	struct ring *ring = &fixture->driver.rings[0];

	nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
	while (ring_used_index(ring) != ring->next_used)
		known = guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT).fwd_cnt;
	return known;
}

/* The guest sends, within its credit, until the host takes no more: how much. */
static uint64_t fill_the_host(struct vsock_fixture *fixture, uint32_t host_port)
{
	uint8_t data[4096];
	uint32_t forwarded = 0;
	uint64_t sent = 0;

	for (;;) {
		while ((uint32_t)sent - forwarded + sizeof(data) <= VSOCK_BUFFER_SIZE) {
			fill_pattern(data, sizeof(data), sent);
			guest_send_data(fixture, PORT, host_port, data, sizeof(data));
			sent += sizeof(data);
		}
		uint32_t before = forwarded;

		guest_send_op(fixture, VIRTIO_VSOCK_OP_CREDIT_REQUEST, PORT, host_port);
		forwarded = newest_credit(fixture, forwarded);
		if (forwarded == before)
			return sent;
	}
}

static void expect_pattern(int fd, uint64_t length)
{
	uint8_t data[4096];
	uint64_t arrived = 0;

	while (arrived < length) {
		ssize_t count = recv(fd, data, sizeof(data), 0);

		assert_true(count > 0);
		assert_true(is_pattern(data, (size_t)count, arrived));
		arrived += (uint64_t)count;
	}
	assert_int_equal(arrived, length);
}

/* What the host does not read fills the socket, then the buffer; then the guest has no credit. */
static void a_host_that_does_not_read_costs_one_buffer_and_loses_nothing(void **state)
{
	struct vsock_fixture *fixture = *state;
	int listener = host_listen(fixture, HOST_PORT);
	int fd = connect_to_host(fixture, listener, PORT, HOST_PORT);
	uint64_t sent = fill_the_host(fixture, HOST_PORT);
	uint32_t forwarded = 0;

	assert_true(sent > VSOCK_BUFFER_SIZE);
	expect_pattern(fd, sent);
	while ((uint32_t)sent - forwarded > VSOCK_BUFFER_SIZE / 2)
		forwarded = guest_expect(fixture, VIRTIO_VSOCK_OP_CREDIT_UPDATE, PORT).fwd_cnt;
	close(fd);
	close(listener);
}

static void the_host_may_end_its_half(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet;

	host_send(fd, "last", 4);
	shutdown(fd, SHUT_WR);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT).length, 4);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT);
	assert_int_equal(packet.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	guest_send_data(fixture, PORT, host_port, "still heard", 11);
	host_expect(fd, "still heard", 11);
	close(fd);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_RST, PORT, host_port);
	guest_expect_silence(fixture);
}

static void the_guest_may_end_its_half(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);

	guest_send_data(fixture, PORT, host_port, "last", 4);
	packet.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	guest_send(fixture, &packet, NULL, 0);
	host_expect(fd, "last", 4);
	host_expect_end(fd);
	host_send(fd, "still heard", 11);
	assert_int_equal(guest_expect(fixture, VIRTIO_VSOCK_OP_RW, PORT).length, 11);
	packet.flags = VIRTIO_VSOCK_SHUTDOWN_RCV; /* with SEND from before: both */
	guest_send(fixture, &packet, NULL, 0);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	close(fd);
}

static void a_guest_that_reads_no_more_stops_the_host(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);

	packet.flags = VIRTIO_VSOCK_SHUTDOWN_RCV;
	guest_send(fixture, &packet, NULL, 0);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	guest_send_data(fixture, PORT, host_port, "but talks", 9);
	host_expect(fd, "but talks", 9);
	close(fd);
}

static void both_halves_ended_by_either_side_end_it_all(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);

	shutdown(fd, SHUT_WR);
	guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT);
	packet.flags = VIRTIO_VSOCK_SHUTDOWN_SEND;
	guest_send(fixture, &packet, NULL, 0);
	host_expect_end(fd);
	packet = guest_expect(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT);
	assert_int_equal(packet.flags, VSOCK_SHUTDOWN_BOTH);
	close(fd);
}

/* The guest has closed; what it said before still reaches a host that reads late. */
static void the_last_words_of_a_guest_that_has_closed_are_kept(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	uint32_t host_port = connect_to_guest(fixture, fd, PORT);
	struct vsock_packet packet =
		guest_packet(fixture, VIRTIO_VSOCK_OP_SHUTDOWN, PORT, host_port);
	uint64_t sent = fill_the_host(fixture, host_port);

	packet.flags = VSOCK_SHUTDOWN_BOTH;
	guest_send(fixture, &packet, NULL, 0);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RST, PORT);
	expect_pattern(fd, sent);
	host_expect_end(fd);
	guest_expect_silence(fixture);
	close(fd);
}

static void a_reset_of_the_guest_ends_its_connections(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);

	connect_to_guest(fixture, fd, PORT);
	virtio_driver_write(&fixture->driver, 0x70, 0);
	host_expect_end(fd);
	close(fd);

	virtio_driver_start(&fixture->driver, 0);
	guest_give_buffers(fixture, RX_BUFFERS);
	fd = host_connect(fixture);
	connect_to_guest(fixture, fd, PORT);
	close(fd);
}

static void without_receive_buffers_the_host_waits(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fd = host_connect(fixture);
	static uint8_t data[1 << 20];
	struct vsock_packet packet;
	uint64_t arrived = 0;
	ssize_t sent = 0;

	fixture->buf_alloc = 1 << 30;
	connect_to_guest(fixture, fd, PORT);
	fill_pattern(data, sizeof(data), 0);
	for (ssize_t count = 0; count >= 0; sent += count) {
		nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
		count = send(fd, data + sent, sizeof(data) - (size_t)sent,
			     MSG_NOSIGNAL | MSG_DONTWAIT);
		if (count < 0)
			break;
	}
	assert_true((size_t)sent < sizeof(data)); /* the socket's own buffer, and the guest's */
	while (arrived < (uint64_t)sent) {
		uint8_t piece[4096];

		assert_true(guest_receive(fixture, &packet, piece));
		assert_true(is_pattern(piece, packet.length, arrived));
		arrived += packet.length;
	}
	close(fd);
}

static void many_connections_are_served_in_turns(void **state)
{
	struct vsock_fixture *fixture = *state;
	int fds[64];
	uint32_t host_ports[64];
	bool seen[64] = {false};

	for (uint32_t i = 0; i < 64; i++) {
		fds[i] = host_connect(fixture);
		host_ports[i] = connect_to_guest(fixture, fds[i], PORT + i);
	}
	for (uint32_t i = 0; i < 64; i++)
		host_send(fds[i], &i, sizeof(i));
	for (uint32_t i = 0; i < 64; i++) {
		struct vsock_packet packet;
		uint32_t data[1024];

		assert_true(guest_receive(fixture, &packet, data));
		assert_true(data[0] < 64 && packet.dst_port == PORT + data[0]);
		assert_int_equal(packet.src_port, host_ports[data[0]]);
		assert_false(seen[data[0]]);
		seen[data[0]] = true;
		guest_send_data(fixture, packet.dst_port, packet.src_port, data, 4);
	}
	for (uint32_t i = 0; i < 64; i++) {
		host_expect(fds[i], &i, sizeof(i));
		close(fds[i]);
	}
}

int main(void)
{
#define VSOCK_TEST(test) cmocka_unit_test_setup_teardown(test, vsock_setup, vsock_teardown)
	const struct CMUnitTest tests[] = {
		VSOCK_TEST(the_configuration_space_tells_the_cid),
		VSOCK_TEST(the_socket_is_the_owners_alone),
		VSOCK_TEST(a_path_in_use_is_refused),
		VSOCK_TEST(the_host_connects_and_bytes_flow_both_ways),
		VSOCK_TEST(what_follows_the_connect_line_is_for_the_guest),
		VSOCK_TEST(a_line_that_is_no_connect_ends_the_connection),
		VSOCK_TEST(a_guest_that_does_not_listen_ends_the_connection),
		VSOCK_TEST(without_a_driver_the_host_is_turned_away),
		VSOCK_TEST(the_guest_connects_to_a_socket_of_the_host),
		VSOCK_TEST(a_port_that_nobody_listens_on_resets_the_guest),
		VSOCK_TEST(a_stream_to_the_guest_arrives_whole),
		VSOCK_TEST(a_stream_from_the_guest_arrives_whole),
		VSOCK_TEST(without_credit_the_host_is_not_read),
		VSOCK_TEST(a_guest_may_shrink_its_buffer),
		VSOCK_TEST(a_credit_request_is_answered),
		VSOCK_TEST(a_host_that_does_not_read_costs_one_buffer_and_loses_nothing),
		VSOCK_TEST(the_host_may_end_its_half),
		VSOCK_TEST(the_guest_may_end_its_half),
		VSOCK_TEST(a_guest_that_reads_no_more_stops_the_host),
		VSOCK_TEST(both_halves_ended_by_either_side_end_it_all),
		VSOCK_TEST(the_last_words_of_a_guest_that_has_closed_are_kept),
		VSOCK_TEST(a_reset_of_the_guest_ends_its_connections),
		VSOCK_TEST(without_receive_buffers_the_host_waits),
		VSOCK_TEST(many_connections_are_served_in_turns),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
