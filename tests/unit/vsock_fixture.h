/*
 * A vsock device with real Unix sockets on the host's side and a driver that the test plays on the
 * guest's. Every wait has a limit and fails the test.
 */
#ifndef EBB_TESTS_VSOCK_FIXTURE_H
#define EBB_TESTS_VSOCK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/vsock_packet.h"
#include "virtio_driver.h"

#define GUEST_CID        42u
#define RX_BUFFERS       8u
#define RX_BUFFER_SIZE   (VSOCK_HEADER_SIZE + 4096u)
#define GUEST_BUF_ALLOC  (256u << 10)
#define PACKET_BYTES_MAX (128u << 10)

struct vsock_fixture {
	struct virtio_driver driver;
	char directory[64];
	char path[80];
	gpa_t rx_gpa[VIRTIO_DRIVER_QUEUE_SIZE]; /* of the buffer with this head */
	unsigned rx_next;
	uint32_t buf_alloc; /* what the guest's packets say */
	uint32_t fwd_cnt;
};

/* For cmocka: *state is the fixture, the driver runs, the guest has given receive buffers. */
int vsock_setup(void **state);
int vsock_teardown(void **state);

/* Gives the device @count more receive buffers; the first RX_BUFFERS are given by vsock_setup(). */
void guest_give_buffers(struct vsock_fixture *fixture, unsigned count);

/* A packet with the guest's credit, from @port of the guest to @host_port. */
struct vsock_packet guest_packet(const struct vsock_fixture *fixture, unsigned op, uint32_t port,
				 uint32_t host_port);

/* Sends @packet with @length bytes behind it, whatever it says, and waits until it is taken. */
void guest_send(struct vsock_fixture *fixture, const struct vsock_packet *packet, const void *data,
		size_t length);
/* The usual: a well-formed packet. */
void guest_send_op(struct vsock_fixture *fixture, unsigned op, uint32_t port, uint32_t host_port);
void guest_send_data(struct vsock_fixture *fixture, uint32_t port, uint32_t host_port,
		     const void *data, size_t length);

/* The next packet for the guest, its payload at @data (4096 bytes, may be NULL); gives the buffer
 * back. False: nothing for five seconds. */
bool guest_receive(struct vsock_fixture *fixture, struct vsock_packet *packet, void *data);
/* The same, and it has to be @op for @port. */
struct vsock_packet guest_expect(struct vsock_fixture *fixture, unsigned op, uint32_t port);
/* Nothing comes for a moment. */
void guest_expect_silence(struct vsock_fixture *fixture);

/* The host's programs. */
int host_connect(struct vsock_fixture *fixture);               /* to PATH */
int host_listen(struct vsock_fixture *fixture, uint32_t port); /* at PATH_port */
int host_accept(int listener);
void host_send(int fd, const void *data, size_t length);
void host_expect(int fd, const void *data, size_t length);
void host_expect_end(int fd);

/* Says CONNECT, plays the guest's RESPONSE, reads OK: the host's port. */
uint32_t connect_to_guest(struct vsock_fixture *fixture, int fd, uint32_t port);
/* The guest connects from @port to @host_port, where @listener listens: the host's end. */
int connect_to_host(struct vsock_fixture *fixture, int listener, uint32_t port, uint32_t host_port);

/* Bytes that tell where they belong. */
void fill_pattern(uint8_t *data, size_t length, uint64_t offset);
bool is_pattern(const uint8_t *data, size_t length, uint64_t offset);

#endif
