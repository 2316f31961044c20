/* A disk of 64 KiB under a hostile driver. */
#include "devices/virtio_blk.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/guest.h"

#define DISK_BYTES 0x10000

/* Transfers end on their own time. */
static void let_transfers_end(struct fuzz_guest *guest, struct fuzz_input *input)
{
	const struct timespec moment = {.tv_nsec = 200000};

	(void)input;
	nanosleep(&moment, NULL);
	fuzz_guest_turn(guest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;
	struct block *block;
	char path[32];
	int fd = memfd_create("disk", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || ftruncate(fd, DISK_BYTES) ||
	    block_open(path, fuzz_u8(&input) & 1, "fuzz", &block, NULL))
		abort();
	fuzz_guest_create(&guest);
	guest.host = let_transfers_end;
	if (virtio_blk_create(guest.memory, guest.loop, block, BLOCK_IO_AUTO, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	close(fd);
	return 0;
}
