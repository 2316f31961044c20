#include "vsock_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <linux/virtio_vsock.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "devices/virtio_vsock.h"
#include "vmm/base/size.h"

#define RX_AREA VIRTIO_DRIVER_DATA
#define TX_AREA (VIRTIO_DRIVER_DATA + 0x80000)

int vsock_setup(void **state)
{
	struct vsock_fixture *fixture = calloc(1, sizeof(*fixture));
	struct virtio_device *device = NULL;
	struct error err;

	assert_non_null(fixture);
	snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/ebb-vsock-XXXXXX");
	assert_non_null(mkdtemp(fixture->directory));
	snprintf(fixture->path, sizeof(fixture->path), "%s/v", fixture->directory);
	fixture->buf_alloc = GUEST_BUF_ALLOC;
	virtio_driver_setup(&fixture->driver, 4 * MIB);
	if (virtio_vsock_create(fixture->driver.memory, fixture->driver.loop, fixture->path,
				GUEST_CID, &device, &err))
		fail_msg("%s", err.text);
	virtio_driver_attach(&fixture->driver, device);
	virtio_driver_start(&fixture->driver, 0);
	guest_give_buffers(fixture, RX_BUFFERS);
	*state = fixture;
	return 0;
}

int vsock_teardown(void **state)
{
	struct vsock_fixture *fixture = *state;
	char command[128];

	virtio_driver_teardown(&fixture->driver);
	assert_int_equal(access(fixture->path, F_OK), -1); /* the device removes its socket */
	snprintf(command, sizeof(command), "rm -r %s", fixture->directory);
	assert_int_equal(system(command), 0);
	free(fixture);
	return 0;
}

void guest_give_buffers(struct vsock_fixture *fixture, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		gpa_t gpa = RX_AREA + (gpa_t)(fixture->rx_next++ % 16) * 0x2000;
		uint16_t head = ring_add(&fixture->driver.rings[0],
					 &(struct ring_buffer){gpa, RX_BUFFER_SIZE, true}, 1);

		fixture->rx_gpa[head] = gpa;
	}
	virtio_driver_kick(&fixture->driver, 0);
}

struct vsock_packet guest_packet(const struct vsock_fixture *fixture, unsigned op, uint32_t port,
				 uint32_t host_port)
{
	return (struct vsock_packet){
		.src_cid = GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = port,
		.dst_port = host_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = fixture->buf_alloc,
		.fwd_cnt = fixture->fwd_cnt,
	};
}

void guest_send(struct vsock_fixture *fixture, const struct vsock_packet *packet, const void *data,
		size_t length)
{
	struct ring *ring = &fixture->driver.rings[1];
	const struct ring_buffer buffers[] = {
		{TX_AREA, VSOCK_HEADER_SIZE, false},
		{TX_AREA + 0x1000, (uint32_t)length, false},
	};
	uint8_t header[VSOCK_HEADER_SIZE];
	uint16_t head;
	uint32_t written;

	assert_true(length <= PACKET_BYTES_MAX);
	vsock_packet_encode(packet, header);
	ring_write(ring, TX_AREA, header, sizeof(header));
	if (length)
		ring_write(ring, TX_AREA + 0x1000, data, length);
	ring_add(ring, buffers, length ? 2 : 1);
	virtio_driver_kick(&fixture->driver, 1);
	assert_true(virtio_driver_wait_used(&fixture->driver, 1, &head, &written));
	assert_int_equal(written, 0);
}

void guest_send_op(struct vsock_fixture *fixture, unsigned op, uint32_t port, uint32_t host_port)
{
	const struct vsock_packet packet = guest_packet(fixture, op, port, host_port);

	guest_send(fixture, &packet, NULL, 0);
}

void guest_send_data(struct vsock_fixture *fixture, uint32_t port, uint32_t host_port,
		     const void *data, size_t length)
{
	struct vsock_packet packet = guest_packet(fixture, VIRTIO_VSOCK_OP_RW, port, host_port);

	packet.length = (uint32_t)length;
	guest_send(fixture, &packet, data, length);
}

bool guest_receive(struct vsock_fixture *fixture, struct vsock_packet *packet, void *data)
{
	struct ring *ring = &fixture->driver.rings[0];
	uint8_t header[VSOCK_HEADER_SIZE];
	uint16_t head;
	uint32_t written;

	if (!virtio_driver_wait_used(&fixture->driver, 0, &head, &written))
		return false;
	assert_in_range(written, VSOCK_HEADER_SIZE, RX_BUFFER_SIZE);
	ring_read(ring, fixture->rx_gpa[head], header, sizeof(header));
	vsock_packet_decode(header, packet);
	assert_int_equal(written, VSOCK_HEADER_SIZE + packet->length);
	assert_int_equal(packet->dst_cid, GUEST_CID);
	if (data && packet->length)
		ring_read(ring, fixture->rx_gpa[head] + VSOCK_HEADER_SIZE, data, packet->length);
	guest_give_buffers(fixture, 1);
	return true;
}

struct vsock_packet guest_expect(struct vsock_fixture *fixture, unsigned op, uint32_t port)
{
	struct vsock_packet packet = {0};

	if (!guest_receive(fixture, &packet, NULL))
		fail_msg("no packet for the guest, op %u expected", op);
	assert_int_equal(packet.op, op);
	assert_int_equal(packet.dst_port, port);
	return packet;
}

void guest_expect_silence(struct vsock_fixture *fixture)
{
	uint16_t head;
	uint32_t written;

	nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
	assert_false(ring_take_used(&fixture->driver.rings[0], &head, &written));
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

static int limit_waits(int fd)
{
	const struct timeval patience = {.tv_sec = 5};

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	return fd;
}

int host_connect(struct vsock_fixture *fixture)
{
	const struct sockaddr_un address = address_of(fixture->path);
	int fd = limit_waits(socket(AF_UNIX, SOCK_STREAM, 0));

	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

int host_listen(struct vsock_fixture *fixture, uint32_t port)
{
	char path[108];
	struct sockaddr_un address;
	int fd = limit_waits(socket(AF_UNIX, SOCK_STREAM, 0));

	snprintf(path, sizeof(path), "%s_%u", fixture->path, port);
	address = address_of(path);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4096), 0);
	return fd;
}

int host_accept(int listener)
{
	return limit_waits(accept(listener, NULL, NULL));
}

void host_send(int fd, const void *data, size_t length)
{
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), length);
}

void host_expect(int fd, const void *data, size_t length)
{
	uint8_t *received = malloc(length);

	assert_non_null(received);
	assert_int_equal(recv(fd, received, length, MSG_WAITALL), length);
	assert_memory_equal(received, data, length);
	free(received);
}

void host_expect_end(int fd)
{
	char byte;

	assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

uint32_t connect_to_guest(struct vsock_fixture *fixture, int fd, uint32_t port)
{
	char line[32];
	struct vsock_packet request;
	int length = snprintf(line, sizeof(line), "CONNECT %u\n", port);

	host_send(fd, line, (size_t)length);
	request = guest_expect(fixture, VIRTIO_VSOCK_OP_REQUEST, port);
	assert_int_equal(request.src_cid, VSOCK_HOST_CID);
	guest_send_op(fixture, VIRTIO_VSOCK_OP_RESPONSE, port, request.src_port);
	length = snprintf(line, sizeof(line), "OK %u\n", request.src_port);
	host_expect(fd, line, (size_t)length);
	return request.src_port;
}

int connect_to_host(struct vsock_fixture *fixture, int listener, uint32_t port, uint32_t host_port)
{
	guest_send_op(fixture, VIRTIO_VSOCK_OP_REQUEST, port, host_port);
	guest_expect(fixture, VIRTIO_VSOCK_OP_RESPONSE, port);
	return host_accept(listener);
}

static uint8_t pattern_at(uint64_t offset)
{
	return (uint8_t)((offset * 0x9e3779b97f4a7c15ull) >> 40);
}

void fill_pattern(uint8_t *data, size_t length, uint64_t offset)
{
	for (size_t i = 0; i < length; i++)
		data[i] = pattern_at(offset + i);
}

bool is_pattern(const uint8_t *data, size_t length, uint64_t offset)
{
	for (size_t i = 0; i < length; i++)
		if (data[i] != pattern_at(offset + i))
			return false;
	return true;
}
