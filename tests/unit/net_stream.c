/* Frames over a stream socket: cut anywhere, of hostile sizes, to a peer that is slow or gone. */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "devices/net_framing.h"
#include "devices/net_stream.h"

#define HEADER    sizeof(struct virtio_net_hdr_v1)
#define SENT_MAX  65535u /* the longest frame that is sent */
#define ROOM      (2u << 20)
#define SMALL_BUF 16384

struct fixture {
	struct net_backend *backend;
	int peer;
};

static uint8_t received[NET_FRAME_MAX];
static uint8_t stream[ROOM];
static uint8_t frame[NET_FRAMING_MAX];
static const struct virtio_net_hdr_v1 no_header;

static int connect_stream(void **state)
{
	static struct fixture fixture;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return -1;
	fixture.peer = fds[1];
	*state = &fixture;
	return net_stream_create(fds[0], &fixture.backend);
}

static int disconnect(void **state)
{
	struct fixture *fixture = *state;

	net_backend_destroy(fixture->backend);
	if (fixture->peer >= 0)
		close(fixture->peer);
	return 0;
}

/* A frame's contents that say its length and where in it a byte belongs. */
static uint8_t pattern(size_t length, size_t at)
{
	return (uint8_t)(length * 7 + at + (at >> 8));
}

/* Appends a frame of @length, with its prefix, to @to. Returns what follows. */
static uint8_t *append(uint8_t *to, size_t length)
{
	uint32_t prefix = htobe32((uint32_t)length);

	memcpy(to, &prefix, sizeof(prefix));
	to += sizeof(prefix);
	for (size_t i = 0; i < length; i++)
		*to++ = pattern(length, i);
	return to;
}

static void feed(struct fixture *fixture, const void *bytes, size_t count)
{
	assert_int_equal(write(fixture->peer, bytes, count), count);
}

static ssize_t receive(struct fixture *fixture)
{
	memset(received, 0xee, HEADER);
	return fixture->backend->ops->receive(fixture->backend, received);
}

static void assert_receives(struct fixture *fixture, size_t length)
{
	static const uint8_t zero[HEADER];

	assert_int_equal(receive(fixture), HEADER + length);
	assert_memory_equal(received, zero, HEADER);
	for (size_t i = 0; i < length; i++) {
		if (received[HEADER + i] != pattern(length, i))
			fail_msg("byte %zu of a frame of %zu is wrong", i, length);
	}
}

/* Sends a frame of @length in @pieces pieces. */
static int send_pieces(struct fixture *fixture, size_t length, size_t pieces)
{
	struct iovec iov[256];
	size_t done = 0;

	assert_true(pieces <= 256);
	for (size_t i = 0; i < length; i++)
		frame[i] = pattern(length, i);
	for (size_t i = 0; i < pieces; i++) {
		size_t size = i + 1 < pieces ? length / pieces : length - done;

		iov[i] = (struct iovec){.iov_base = frame + done, .iov_len = size};
		done += size;
	}
	return fixture->backend->ops->send(fixture->backend, &no_header, iov, pieces);
}

/* Reads all that the peer has got, to the end of stream[@have…]. Returns how much there is then. */
static size_t drain(struct fixture *fixture, size_t have)
{
	ssize_t bytes;

	while ((bytes = read(fixture->peer, stream + have, sizeof(stream) - have)) > 0)
		have += (size_t)bytes;
	return have;
}

/* stream[@at…] is a whole frame of @length. Returns what follows it. */
static size_t assert_frame(size_t at, size_t have, size_t length)
{
	uint32_t prefix;

	assert_true(have - at >= sizeof(prefix) + length);
	memcpy(&prefix, stream + at, sizeof(prefix));
	assert_int_equal(be32toh(prefix), length);
	at += sizeof(prefix);
	for (size_t i = 0; i < length; i++) {
		if (stream[at + i] != pattern(length, i))
			fail_msg("byte %zu of a frame of %zu is wrong", i, length);
	}
	return at + length;
}

static void frames_come_one_at_a_time(void **state)
{
	static const size_t lengths[] = {14, 60, 1514, 65534, 42};
	struct fixture *fixture = *state;
	uint8_t *end = stream;

	for (size_t i = 0; i < 5; i++)
		end = append(end, lengths[i]);
	feed(fixture, stream, (size_t)(end - stream));
	for (size_t i = 0; i < 5; i++)
		assert_receives(fixture, lengths[i]);
	assert_int_equal(receive(fixture), -EAGAIN);
}

static void stream_may_be_cut_anywhere(void **state)
{
	struct fixture *fixture = *state;
	size_t total = (size_t)(append(append(stream, 60), 14) - stream);

	for (size_t cut = 1; cut < total; cut++) {
		int whole = (cut >= 4 + 60) + (cut >= total);

		append(append(stream, 60), 14);
		feed(fixture, stream, cut);
		if (whole)
			assert_receives(fixture, 60);
		assert_int_equal(receive(fixture), -EAGAIN);
		feed(fixture, stream + cut, total - cut);
		if (!whole)
			assert_receives(fixture, 60);
		assert_receives(fixture, 14);
		assert_int_equal(receive(fixture), -EAGAIN);
	}
}

static void stream_may_come_byte_by_byte(void **state)
{
	struct fixture *fixture = *state;
	size_t total = (size_t)(append(stream, 99) - stream);

	for (size_t i = 0; i + 1 < total; i++) {
		feed(fixture, stream + i, 1);
		assert_int_equal(receive(fixture), -EAGAIN);
	}
	feed(fixture, stream + total - 1, 1);
	assert_receives(fixture, 99);
}

/* What is ready but not fetched must keep the socket readable, or nobody would come for it. */
static void nothing_but_a_prefix_is_read_ahead(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *end = append(append(append(stream, 60), 14), 14);
	uint8_t byte;

	feed(fixture, stream, (size_t)(end - stream));
	assert_receives(fixture, 60);
	assert_int_equal(recv(fixture->backend->fd, &byte, 1, MSG_PEEK), 1);
	assert_receives(fixture, 14);
	assert_int_equal(recv(fixture->backend->fd, &byte, 1, MSG_PEEK), 1);
}

static void longest_frame_is_received(void **state)
{
	struct fixture *fixture = *state;

	feed(fixture, stream, (size_t)(append(stream, NET_FRAMING_MAX) - stream));
	assert_receives(fixture, NET_FRAMING_MAX);
}

static void impossible_lengths_end_it(void **state)
{
	static const uint32_t lengths[] = {0,          1,          13,        NET_FRAMING_MAX + 1,
					   0x7fffffff, 0x80000000, 0xffffffff};
	struct fixture *fixture = *state;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint32_t prefix = htobe32(lengths[i]);

		feed(fixture, &prefix, sizeof(prefix));
		assert_int_equal(receive(fixture), -EPROTO);
		disconnect(state);
		assert_int_equal(connect_stream(state), 0);
	}
}

static void impossible_length_behind_a_frame_ends_it(void **state)
{
	struct fixture *fixture = *state;
	uint8_t *end = append(stream, 60);

	memset(end, 0xff, 4);
	feed(fixture, stream, (size_t)(end + 4 - stream));
	assert_int_equal(receive(fixture), -EPROTO);
}

static void frames_are_sent_with_their_length(void **state)
{
	struct fixture *fixture = *state;
	size_t have;

	assert_int_equal(send_pieces(fixture, 14, 1), 0);
	assert_int_equal(send_pieces(fixture, 1514, 3), 0);
	assert_int_equal(send_pieces(fixture, 1000, 64), 0);
	assert_int_equal(send_pieces(fixture, 1001, 65), 0);
	assert_int_equal(send_pieces(fixture, 9000, 256), 0);
	have = drain(fixture, 0);
	assert_int_equal(
		assert_frame(assert_frame(assert_frame(assert_frame(assert_frame(0, have, 14), have,
								    1514),
						       have, 1000),
					  have, 1001),
			     have, 9000),
		have);
}

static void impossible_frames_are_dropped(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(send_pieces(fixture, 0, 1), 0);
	assert_int_equal(send_pieces(fixture, 13, 1), 0);
	assert_int_equal(send_pieces(fixture, SENT_MAX + 1, 1), 0);
	assert_int_equal(drain(fixture, 0), 0);
	assert_int_equal(send_pieces(fixture, SENT_MAX, 1), 0);
	assert_int_equal(assert_frame(0, drain(fixture, 0), SENT_MAX), 4 + SENT_MAX);
}

static void shrink_buffer(struct fixture *fixture)
{
	int size = SMALL_BUF;

	setsockopt(fixture->backend->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* Sends frames of @length until the socket is full. Returns how many it took. */
static size_t fill(struct fixture *fixture, size_t length, size_t pieces)
{
	size_t count = 0;
	int result;

	while (!(result = send_pieces(fixture, length, pieces)))
		count++;
	assert_int_equal(result, -EAGAIN);
	return count;
}

static void full_socket_loses_and_doubles_nothing(void **state)
{
	struct fixture *fixture = *state;

	for (size_t length = 14; length <= SENT_MAX; length = length * 3 + 1) {
		size_t count = fill(fixture, length, length % 2 ? 1 : 2) + 1;
		size_t have = drain(fixture, 0);
		size_t at = 0;

		/* The same frame comes again until it is taken. */
		while (send_pieces(fixture, length, 3) == -EAGAIN)
			have = drain(fixture, have);
		have = drain(fixture, have);
		for (size_t i = 0; i < count; i++)
			at = assert_frame(at, have, length);
		assert_int_equal(at, have);
	}
}

static void frame_cut_by_a_full_socket_is_completed_before_another(void **state)
{
	struct fixture *fixture = *state;
	size_t have;
	size_t at;

	shrink_buffer(fixture);
	assert_int_equal(send_pieces(fixture, SENT_MAX, 2), -EAGAIN);
	have = drain(fixture, 0);
	assert_true(have > 0 && have < 4 + SENT_MAX);
	/* The driver was reset: what it sends now is another frame. */
	while (send_pieces(fixture, 60, 1) == -EAGAIN)
		have = drain(fixture, have);
	have = drain(fixture, have);
	at = assert_frame(0, have, SENT_MAX);
	assert_int_equal(assert_frame(at, have, 60), have);
}

static void frame_in_many_pieces_survives_a_full_socket(void **state)
{
	struct fixture *fixture = *state;
	size_t have = 0;

	shrink_buffer(fixture);
	while (send_pieces(fixture, SENT_MAX, 200) == -EAGAIN)
		have = drain(fixture, have);
	have = drain(fixture, have);
	assert_int_equal(assert_frame(0, have, SENT_MAX), have);
}

static void peer_that_left_is_an_error_and_no_signal(void **state)
{
	struct fixture *fixture = *state;

	close(fixture->peer);
	fixture->peer = -1;
	assert_int_equal(receive(fixture), -ECONNRESET);
	assert_int_equal(send_pieces(fixture, 60, 1), -EPIPE);
	assert_int_equal(send_pieces(fixture, 600, 100), -EPIPE);
}

static void peer_that_leaves_within_a_frame_is_an_error(void **state)
{
	struct fixture *fixture = *state;

	append(stream, 60);
	feed(fixture, stream, 30);
	close(fixture->peer);
	fixture->peer = -1;
	assert_int_equal(receive(fixture), -ECONNRESET);
}

#define STREAM_TEST(name) cmocka_unit_test_setup_teardown(name, connect_stream, disconnect)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STREAM_TEST(frames_come_one_at_a_time),
		STREAM_TEST(stream_may_be_cut_anywhere),
		STREAM_TEST(stream_may_come_byte_by_byte),
		STREAM_TEST(nothing_but_a_prefix_is_read_ahead),
		STREAM_TEST(longest_frame_is_received),
		STREAM_TEST(impossible_lengths_end_it),
		STREAM_TEST(impossible_length_behind_a_frame_ends_it),
		STREAM_TEST(frames_are_sent_with_their_length),
		STREAM_TEST(impossible_frames_are_dropped),
		STREAM_TEST(full_socket_loses_and_doubles_nothing),
		STREAM_TEST(frame_cut_by_a_full_socket_is_completed_before_another),
		STREAM_TEST(frame_in_many_pieces_survives_a_full_socket),
		STREAM_TEST(peer_that_left_is_an_error_and_no_signal),
		STREAM_TEST(peer_that_leaves_within_a_frame_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
