/* Headers of vsock packets: bytes and back, and what is wrong with them. */
#include "devices/vsock_packet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_vsock.h>

#define CID 7u

static struct vsock_packet good(unsigned op)
{
	return (struct vsock_packet){
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = 1,
		.dst_port = 2,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
	};
}

static void fields_lie_where_the_specification_says(void **state)
{
	static const uint8_t bytes[VSOCK_HEADER_SIZE] = {
		1, 0, 0, 0, 0,  0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, /* CIDs */
		3, 0, 0, 0, 4,  1, 0, 0,                            /* ports */
		5, 0, 0, 0, 6,  0, 7, 0,    8, 0, 0, 0,             /* length, type, op, flags */
		9, 0, 0, 0, 10, 0, 0, 0xff,                         /* buf_alloc, fwd_cnt */
	};
	uint8_t back[VSOCK_HEADER_SIZE];
	struct vsock_packet packet;

	(void)state;
	vsock_packet_decode(bytes, &packet);
	assert_true(packet.src_cid == 0x8000000000000001ull && packet.dst_cid == 2);
	assert_true(packet.src_port == 3 && packet.dst_port == 0x104 && packet.length == 5);
	assert_true(packet.type == 6 && packet.op == 7 && packet.flags == 8);
	assert_true(packet.buf_alloc == 9 && packet.fwd_cnt == 0xff00000a);
	vsock_packet_encode(&packet, back);
	assert_memory_equal(back, bytes, sizeof(bytes));
}

static void every_operation_of_the_specification_is_taken(void **state)
{
	(void)state;
	for (unsigned op = VIRTIO_VSOCK_OP_REQUEST; op <= VIRTIO_VSOCK_OP_CREDIT_REQUEST; op++) {
		const struct vsock_packet packet = good(op);

		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_TAKE);
	}
}

static void unknown_operations_and_types_are_refused(void **state)
{
	const unsigned ops[] = {0, 8, 9, 0xffff};
	const uint16_t types[] = {0, VIRTIO_VSOCK_TYPE_SEQPACKET, 3, 0xffff};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct vsock_packet packet = good(ops[i]);

		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_REFUSE);
		packet = good(VIRTIO_VSOCK_OP_REQUEST);
		packet.type = types[i];
		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_REFUSE);
	}
}

static void a_false_sender_is_not_answered(void **state)
{
	const uint64_t senders[] = {0, VSOCK_HOST_CID, CID + 1, CID | 1ull << 32};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct vsock_packet packet = good(VIRTIO_VSOCK_OP_REQUEST);

		packet.src_cid = senders[i];
		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_DROP);
	}
}

static void other_destinations_are_refused(void **state)
{
	const uint64_t others[] = {0, 1, CID, 99, VSOCK_HOST_CID | 1ull << 32, UINT64_MAX};

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct vsock_packet packet = good(VIRTIO_VSOCK_OP_REQUEST);

		packet.dst_cid = others[i];
		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_REFUSE);
		packet.op = VIRTIO_VSOCK_OP_RST; /* or it would come back for ever */
		assert_int_equal(vsock_packet_judge(&packet, 0, CID), VSOCK_DROP);
	}
}

static void payload_has_to_be_there(void **state)
{
	struct vsock_packet packet = good(VIRTIO_VSOCK_OP_RW);

	(void)state;
	packet.length = 100;
	assert_int_equal(vsock_packet_judge(&packet, 100, CID), VSOCK_TAKE);
	assert_int_equal(vsock_packet_judge(&packet, 200, CID), VSOCK_TAKE);
	assert_int_equal(vsock_packet_judge(&packet, 99, CID), VSOCK_REFUSE);
	packet.length = UINT32_MAX;
	assert_int_equal(vsock_packet_judge(&packet, 1ull << 31, CID), VSOCK_REFUSE);
}

static void a_refusal_goes_back_to_the_sender(void **state)
{
	const struct vsock_packet packet = good(VIRTIO_VSOCK_OP_RW);
	struct vsock_packet refusal = vsock_packet_refusal(&packet);

	(void)state;
	assert_int_equal(refusal.op, VIRTIO_VSOCK_OP_RST);
	assert_true(refusal.src_cid == VSOCK_HOST_CID && refusal.dst_cid == CID);
	assert_true(refusal.src_port == 2 && refusal.dst_port == 1 && refusal.length == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_lie_where_the_specification_says),
		cmocka_unit_test(every_operation_of_the_specification_is_taken),
		cmocka_unit_test(unknown_operations_and_types_are_refused),
		cmocka_unit_test(a_false_sender_is_not_answered),
		cmocka_unit_test(other_destinations_are_refused),
		cmocka_unit_test(payload_has_to_be_there),
		cmocka_unit_test(a_refusal_goes_back_to_the_sender),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
