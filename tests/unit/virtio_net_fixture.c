#include "virtio_net_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/net_pair.h"
#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"

#define PATIENCE_NS (5 * NS_PER_SEC)

const uint8_t net_mac[VIRTIO_NET_MAC_BYTES] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

static struct net_fixture *to_fixture(struct net_backend *backend)
{
	return container_of(backend, struct net_fixture, backend);
}

static ssize_t receive(struct net_backend *backend, void *buffer)
{
	ssize_t size = net_pair_receive(backend, buffer);

	atomic_fetch_add(&to_fixture(backend)->receives, 1);
	return size;
}

static int set_offloads(struct net_backend *backend, uint64_t features)
{
	atomic_store(&to_fixture(backend)->offloads, features);
	return 0;
}

static const struct net_backend_ops backend_ops = {
	.name = "pair",
	.receive = receive,
	.send = net_pair_send,
	.set_offloads = set_offloads,
	.destroy = net_pair_destroy,
};

int net_setup(void **state)
{
	struct net_fixture *f = calloc(1, sizeof(*f));
	int fd;

	assert_non_null(f);
	assert_int_equal(net_pair_open(&f->network, &fd), 0);
	f->backend = (struct net_backend){
		.ops = &backend_ops,
		.fd = fd,
		.offloads = OFFLOADS,
		.mtu = 1400,
	};
	atomic_store(&f->offloads, ~0ull);
	virtio_driver_setup(&f->driver, 8 * MIB);
	assert_int_equal(virtio_net_create(f->driver.memory, f->driver.loop, &f->backend, net_mac,
					   &f->device),
			 0);
	virtio_driver_attach(&f->driver, f->device);
	*state = f;
	return 0;
}

int net_teardown(void **state)
{
	struct net_fixture *f = *state;

	virtio_driver_teardown(&f->driver);
	if (f->network >= 0)
		close(f->network);
	free(f);
	return 0;
}

struct net_fixture *net_start(void **state, uint64_t features)
{
	struct net_fixture *f = *state;

	virtio_driver_start(&f->driver, features);
	return f;
}

static void fill_frame(uint8_t *frame, uint8_t fill, size_t length)
{
	for (size_t i = 0; i < length; i++)
		frame[i] = (uint8_t)(fill + i);
}

void network_send(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, uint8_t fill,
		  size_t length)
{
	static const struct virtio_net_hdr_v1 plain;
	static uint8_t message[NET_FRAME_MAX];

	memcpy(message, header ? header : &plain, HEADER_SIZE);
	fill_frame(message + HEADER_SIZE, fill, length);
	assert_int_equal(send(f->network, message, HEADER_SIZE + length, 0), HEADER_SIZE + length);
}

size_t network_receive(struct net_fixture *f, struct virtio_net_hdr_v1 *header, uint8_t *frame,
		       size_t size)
{
	struct pollfd ready = {.fd = f->network, .events = POLLIN};
	struct virtio_net_hdr_v1 ignored;
	struct iovec iov[] = {{header ? header : &ignored, HEADER_SIZE}, {frame, size}};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t got;

	if (poll(&ready, 1, (int)(PATIENCE_NS / NS_PER_MS)) != 1)
		return 0;
	got = recvmsg(f->network, &message, 0);
	assert_true(got >= (ssize_t)HEADER_SIZE);
	return (size_t)got - HEADER_SIZE;
}

bool network_is_quiet(struct net_fixture *f)
{
	struct pollfd ready = {.fd = f->network, .events = POLLIN};

	return poll(&ready, 1, 0) == 0;
}

void driver_send(struct net_fixture *f, const struct virtio_net_hdr_v1 *header, uint8_t fill,
		 uint32_t length)
{
	static const struct virtio_net_hdr_v1 plain;
	static uint8_t frame[2 * NET_FRAME_MAX];
	const struct ring_buffer buffer = {TX_AREA, (uint32_t)HEADER_SIZE + length, false};
	struct ring *ring = &f->driver.rings[TX];

	fill_frame(frame, fill, length);
	ring_write(ring, TX_AREA, header ? header : &plain, HEADER_SIZE);
	ring_write(ring, TX_AREA + HEADER_SIZE, frame, length);
	ring_add(ring, &buffer, 1);
	virtio_driver_kick(&f->driver, TX);
}

uint16_t driver_add_buffer(struct net_fixture *f, unsigned n, uint32_t length)
{
	const struct ring_buffer buffer = {RX_AREA + (gpa_t)n * AREA_STEP, length, true};

	return ring_add(&f->driver.rings[RX], &buffer, 1);
}

uint32_t driver_wait_received(struct net_fixture *f)
{
	uint32_t written = 0;
	uint16_t head;

	assert_true(virtio_driver_wait_used(&f->driver, RX, &head, &written));
	return written;
}

bool driver_has_frame(struct net_fixture *f, unsigned n, size_t offset, uint8_t fill, size_t length)
{
	static uint8_t expected[NET_FRAME_MAX], found[NET_FRAME_MAX];

	fill_frame(expected, fill, length);
	ring_read(&f->driver.rings[RX], RX_AREA + (gpa_t)n * AREA_STEP + offset, found, length);
	return !memcmp(expected, found, length);
}

struct virtio_net_hdr_v1 driver_header(struct net_fixture *f, unsigned n)
{
	struct virtio_net_hdr_v1 header;

	ring_read(&f->driver.rings[RX], RX_AREA + (gpa_t)n * AREA_STEP, &header, sizeof(header));
	return header;
}

struct virtio_net_counters net_counters(struct net_fixture *f)
{
	struct virtio_net_counters counters;

	virtio_net_get_counters(f->device, &counters);
	return counters;
}

bool net_wait_counter(struct net_fixture *f, size_t offset, uint64_t value)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_NS;

	for (;;) {
		struct virtio_net_counters counters = net_counters(f);

		if (*(uint64_t *)((char *)&counters + offset) == value)
			return true;
		if (clock_monotonic_ns() > deadline)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = 100 * 1000}, NULL);
	}
}
