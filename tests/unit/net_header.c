#include "devices/net_header.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define F(name)      (1ull << VIRTIO_NET_F_##name)
#define ALL          (~0ull)
#define FRAME_LENGTH 40000u

static struct virtio_net_hdr_v1 tcp4(void)
{
	return (struct virtio_net_hdr_v1){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.hdr_len = 54,
		.gso_size = 1448,
		.csum_start = 34,
		.csum_offset = 16,
	};
}

static void takes_a_plain_frame_without_features(void **state)
{
	struct virtio_net_hdr_v1 header = {0};

	(void)state;
	assert_true(net_header_check_sent(&header, 14, 0));
	assert_true(net_header_check_received(&header, 14, 0));
}

static void clears_what_does_not_count(void **state)
{
	struct virtio_net_hdr_v1 header = {
		.flags = 0xfe,
		.hdr_len = 9,
		.gso_size = 9,
		.csum_start = 60000,
		.csum_offset = 60000,
		.num_buffers = 7,
	};
	static const struct virtio_net_hdr_v1 plain;

	(void)state;
	assert_true(net_header_check_sent(&header, 100, ALL));
	assert_memory_equal(&header, &plain, sizeof(plain));
}

static void takes_each_segmentation_that_was_negotiated(void **state)
{
	static const struct {
		uint8_t type;
		uint64_t sent, received;
	} kinds[] = {
		{VIRTIO_NET_HDR_GSO_TCPV4, F(HOST_TSO4), F(GUEST_TSO4)},
		{VIRTIO_NET_HDR_GSO_TCPV6, F(HOST_TSO6), F(GUEST_TSO6)},
		{VIRTIO_NET_HDR_GSO_UDP, F(HOST_UFO), F(GUEST_UFO)},
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct virtio_net_hdr_v1 header = tcp4();

		header.gso_type = kinds[i].type;
		assert_true(net_header_check_sent(&header, FRAME_LENGTH, F(CSUM) | kinds[i].sent));
		assert_true(net_header_check_received(&header, FRAME_LENGTH,
						      F(GUEST_CSUM) | kinds[i].received));
		assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL & ~kinds[i].sent));
		assert_false(
			net_header_check_received(&header, FRAME_LENGTH, ALL & ~kinds[i].received));
	}
}

static void refuses_unknown_segmentation(void **state)
{
	(void)state;
	for (unsigned type = 2; type < 256; type++) {
		struct virtio_net_hdr_v1 header = tcp4();
		unsigned kind = type & ~(unsigned)VIRTIO_NET_HDR_GSO_ECN;

		header.gso_type = (uint8_t)type;
		if (kind == VIRTIO_NET_HDR_GSO_TCPV4 || kind == VIRTIO_NET_HDR_GSO_TCPV6 ||
		    type == VIRTIO_NET_HDR_GSO_UDP)
			continue;
		assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL));
	}
}

static void ecn_is_a_feature_of_its_own(void **state)
{
	struct virtio_net_hdr_v1 header = tcp4();

	(void)state;
	header.gso_type |= VIRTIO_NET_HDR_GSO_ECN;
	assert_true(
		net_header_check_sent(&header, FRAME_LENGTH, F(CSUM) | F(HOST_TSO4) | F(HOST_ECN)));
	assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL & ~F(HOST_ECN)));
}

static void segmentation_needs_a_checksum_to_make(void **state)
{
	struct virtio_net_hdr_v1 header = tcp4();

	(void)state;
	header.flags = 0;
	assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL));
}

static void refuses_a_checksum_outside_the_frame(void **state)
{
	static const struct {
		uint16_t start, offset;
		bool good;
	} places[] = {
		{34, 16, true},     {98, 0, true},      {34, 64, true},
		{99, 0, false},     {34, 65, false},    {100, 0, false},
		{0xffff, 0, false}, {0, 0xffff, false}, {0xffff, 0xffff, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct virtio_net_hdr_v1 header = {
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
			.csum_start = places[i].start,
			.csum_offset = places[i].offset,
		};

		assert_int_equal(net_header_check_sent(&header, 100, ALL), places[i].good);
	}
}

static void refuses_segments_that_are_tiny_or_a_header_longer_than_the_frame(void **state)
{
	struct virtio_net_hdr_v1 header = tcp4();

	(void)state;
	header.gso_size = 0;
	assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL));
	header = tcp4();
	header.gso_size = 1;
	assert_false(net_header_check_sent(&header, FRAME_LENGTH, ALL));
	header = tcp4();
	header.hdr_len = 101;
	assert_false(net_header_check_sent(&header, 100, ALL));
}

static void data_valid_is_for_drivers_that_know_checksums(void **state)
{
	struct virtio_net_hdr_v1 header = {.flags = VIRTIO_NET_HDR_F_DATA_VALID};

	(void)state;
	assert_true(net_header_check_received(&header, 100, F(GUEST_CSUM)));
	assert_int_equal(header.flags, VIRTIO_NET_HDR_F_DATA_VALID);
	assert_true(net_header_check_received(&header, 100, 0));
	assert_int_equal(header.flags, 0);
}

static void features_without_their_condition_do_not_count(void **state)
{
	(void)state;
	assert_int_equal(net_header_settle(F(HOST_TSO4) | F(HOST_ECN) | F(GUEST_TSO6) | F(MAC)),
			 F(MAC));
	assert_int_equal(net_header_settle(F(CSUM) | F(HOST_TSO4) | F(HOST_ECN)),
			 F(CSUM) | F(HOST_TSO4) | F(HOST_ECN));
	assert_int_equal(net_header_settle(F(GUEST_CSUM) | F(GUEST_ECN)), F(GUEST_CSUM));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_plain_frame_without_features),
		cmocka_unit_test(clears_what_does_not_count),
		cmocka_unit_test(takes_each_segmentation_that_was_negotiated),
		cmocka_unit_test(refuses_unknown_segmentation),
		cmocka_unit_test(ecn_is_a_feature_of_its_own),
		cmocka_unit_test(segmentation_needs_a_checksum_to_make),
		cmocka_unit_test(refuses_a_checksum_outside_the_frame),
		cmocka_unit_test(refuses_segments_that_are_tiny_or_a_header_longer_than_the_frame),
		cmocka_unit_test(data_valid_is_for_drivers_that_know_checksums),
		cmocka_unit_test(features_without_their_condition_do_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
