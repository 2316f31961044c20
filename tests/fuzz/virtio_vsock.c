/* vsock under a hostile driver, with a host program that comes and goes. */
#include "devices/virtio_vsock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/vsock_packet.h"
#include "tests/fuzz/guest.h"
#include "vmm/base/unix_socket.h"

static char path[64];
static int program = -1;

static void close_program(void)
{
	if (program >= 0)
		close(program);
	program = -1;
}

static void host(struct fuzz_guest *guest, struct fuzz_input *input)
{
	char text[64];
	size_t length = fuzz_u8(input) % sizeof(text);

	(void)guest;
	fuzz_take(input, text, length);
	if (!length)
		close_program();
	else if (program < 0)
		program = unix_socket_connect(path);
	if (program >= 0 && length)
		send(program, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;

	if (!*path)
		snprintf(path, sizeof(path), "/tmp/ebb-fuzz-vsock-%d", (int)getpid());
	fuzz_guest_create(&guest);
	guest.host = host;
	if (virtio_vsock_create(guest.memory, guest.loop, path, VSOCK_GUEST_CID_MIN, &device, NULL))
		abort();
	fuzz_guest_run(&guest, device, &input);
	close_program();
	return 0;
}
