/*
 * vsock under a hostile driver: packets of any contents, most of them of connections that there are,
 * with host programs that listen, connect, come and go.
 */
#include "devices/virtio_vsock.h"

#include <endian.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vsock_packet.h"
#include "tests/fuzz/guest.h"
#include "vmm/base/unix_socket.h"

#define GUEST_CID VSOCK_GUEST_CID_MIN
#define HOST_PORT 1024u /* where a host program listens */

enum queue {
	RX,
	TX
};

static char path[64];
static int listener = -1;          /* for connections of the guest */
static int programs[2] = {-1, -1}; /* connected by the guest, and to it */

static void end(int *program)
{
	if (*program >= 0)
		close(*program);
	*program = -1;
}

static void listen_for_guest(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s_%u", path, HOST_PORT);
	unlink(address.sun_path);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 4))
		abort();
	/* Connections find it by its name, as long as this process is there. */
}

static void remove_sockets(void)
{
	char name[80];

	snprintf(name, sizeof(name), "%s_%u", path, HOST_PORT);
	unlink(name);
	unlink(path);
}

/* As a client of the socket: it says where it wants to, or something else. */
static void connect_program(struct fuzz_input *input)
{
	char text[64];
	uint8_t kind = fuzz_u8(input);
	size_t length;

	end(&programs[1]);
	programs[1] = unix_socket_connect(path);
	if (programs[1] < 0)
		return;
	if (kind < 0xc0)
		length = (size_t)snprintf(text, sizeof(text), "CONNECT %u\n", kind);
	else
		length = fuzz_take(input, text, kind % sizeof(text));
	send(programs[1], text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void host(struct fuzz_guest *guest, struct fuzz_input *input)
{
	static uint8_t bytes[65536];
	uint8_t what = fuzz_u8(input);
	int *program = &programs[what >> 7];

	(void)guest;
	switch (what & 7) {
	case 0:
		connect_program(input);
		break;
	case 1:
		end(&programs[0]);
		programs[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		break;
	case 2:
		end(program);
		break;
	case 3:
		shutdown(*program, fuzz_u8(input) % 3);
		break;
	case 4:
	case 5:
		send(*program, bytes, fuzz_u16(input), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	default:
		recv(*program, bytes, fuzz_u16(input), MSG_DONTWAIT);
		break;
	}
}

/* The ports of the packet that the device sent last, as the guest answers them. */
static void take_ports(const struct fuzz_guest *guest, struct virtio_vsock_hdr *packet)
{
	struct virtio_vsock_hdr last;
	gpa_t gpa = fuzz_guest_last_used(guest, RX);

	if (!gpa || guest_memory_read(guest->memory, gpa, &last, sizeof(last)))
		return;
	packet->src_port = last.dst_port;
	packet->dst_port = last.src_port;
}

static void send_packet(struct fuzz_guest *guest, struct fuzz_input *input)
{
	static const uint8_t payload[FUZZ_PIECE_MAX];
	uint8_t shape = fuzz_u8(input);
	uint32_t length = shape & 0x08 ? fuzz_u16(input) % FUZZ_PIECE_MAX : 0;
	struct virtio_vsock_hdr packet = {
		.src_cid = htole64(shape & 0x10 ? fuzz_u8(input) : GUEST_CID),
		.dst_cid = htole64(shape & 0x20 ? fuzz_u8(input) : VSOCK_HOST_CID),
		.src_port = htole32(fuzz_u8(input) & 7),
		.dst_port = htole32(HOST_PORT),
		.type = htole16(VIRTIO_VSOCK_TYPE_STREAM),
		.op = htole16(shape & 7),
		.buf_alloc = htole32(65536),
	};
	uint8_t honesty = fuzz_u8(input);
	struct fuzz_piece pieces[2] = {{&packet, sizeof(packet)}, {payload, length}};

	if (shape & 0x40)
		take_ports(guest, &packet);
	if (honesty & 1)
		packet.buf_alloc = fuzz_u32(input);
	if (honesty & 2)
		packet.fwd_cnt = fuzz_u32(input);
	if (honesty & 4)
		packet.flags = htole32(fuzz_u8(input));
	if (honesty & 8) {
		packet.type = htole16(fuzz_u8(input));
		packet.dst_port = fuzz_u32(input);
	}
	packet.len = htole32(honesty & 16 ? fuzz_u32(input) : length);
	fuzz_guest_send(guest, input, TX, pieces, length ? 2 : 1);
}

static void request(struct fuzz_guest *guest, struct fuzz_input *input)
{
	uint8_t kind = fuzz_u8(input);
	const struct fuzz_piece buffer = {
		.length = kind & 2 ? FUZZ_PIECE_MAX : kind,
	};

	if (kind & 1)
		fuzz_guest_send(guest, input, RX, &buffer, 1);
	else
		send_packet(guest, input);
	fuzz_guest_turn(guest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	if (!*path) {
		snprintf(path, sizeof(path), "/tmp/ebb-fuzz-vsock-%d", (int)getpid());
		listen_for_guest();
		atexit(remove_sockets);
	}
	fuzz_guest_create(&guest);
	guest.host = host;
	guest.request = request;
	if (virtio_vsock_create(guest.memory, guest.loop, path, GUEST_CID, &device, NULL))
		abort();
	fuzz_guest_run(&guest, device, &input);
	end(&programs[0]);
	end(&programs[1]);
	while ((programs[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		close(programs[0]);
	return 0;
}
