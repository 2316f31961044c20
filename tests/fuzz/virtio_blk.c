/* A disk of 64 KiB under a hostile driver; requests of all types, some on a file that has shrunk. */
#include "devices/virtio_blk.h"

#include <endian.h>
#include <linux/virtio_blk.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "memory/io_gate.h"
#include "tests/fuzz/guest.h"

#define DISK_BYTES 0x10000
#define RANGES_MAX 34u
#define WAITS_MAX  10

struct disk {
	int fd;
	bool gate_closed;
};

/* Transfers end on their own time; what is malformed never does. */
static void let_transfers_end(struct fuzz_guest *guest)
{
	const struct timespec moment = {.tv_nsec = 50000};

	for (unsigned i = 0; i < WAITS_MAX && !fuzz_guest_is_idle(guest, 0); i++) {
		nanosleep(&moment, NULL);
		fuzz_guest_turn(guest);
	}
}

static void toggle_gate(struct fuzz_guest *guest, struct disk *disk)
{
	struct io_gate *gate = guest_memory_io_gate(guest->memory);

	if (disk->gate_closed)
		io_gate_open(gate);
	else
		io_gate_close(gate);
	disk->gate_closed = !disk->gate_closed;
}

static void host(struct fuzz_guest *guest, struct fuzz_input *input)
{
	struct disk *disk = guest->opaque;

	switch (fuzz_u8(input) & 7) {
	case 0:
		toggle_gate(guest, disk);
		break;
	case 1:
		if (ftruncate(disk->fd, fuzz_u8(input) & 1 ? DISK_BYTES : DISK_BYTES / 2))
			abort();
		break;
	default:
		let_transfers_end(guest);
		break;
	}
}

static uint32_t take_type(struct fuzz_input *input)
{
	static const uint32_t types[] = {
		VIRTIO_BLK_T_IN,     VIRTIO_BLK_T_OUT,     VIRTIO_BLK_T_FLUSH,
		VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_IN,
	};
	unsigned which = fuzz_u8(input) & 7;

	return which < 7 ? types[which] : fuzz_u32(input);
}

/* Mostly on the disk. */
static uint64_t take_sector(struct fuzz_input *input)
{
	uint8_t sector = fuzz_u8(input);

	return sector < 0xf0 ? sector : fuzz_u64(input);
}

/* What stands behind the header. Returns how many bytes. */
static uint32_t take_ranges(struct fuzz_input *input, uint8_t *bytes)
{
	uint8_t shape = fuzz_u8(input);
	unsigned count = shape < 0xf0 ? 1 + shape % 3u : shape - 0xf0u + RANGES_MAX - 15;

	for (unsigned i = 0; i < count; i++) {
		const struct virtio_blk_discard_write_zeroes range = {
			.sector = htole64(take_sector(input)),
			.num_sectors = htole32(shape & 0x40 ? fuzz_u32(input) : fuzz_u8(input)),
			.flags = htole32(fuzz_u8(input) & 3),
		};

		memcpy(bytes + i * sizeof(range), &range, sizeof(range));
	}
	return count * (uint32_t)sizeof(struct virtio_blk_discard_write_zeroes);
}

static void request(struct fuzz_guest *guest, struct fuzz_input *input)
{
	static uint8_t bytes[FUZZ_PIECE_MAX];
	uint32_t type = take_type(input);
	const struct virtio_blk_outhdr header = {
		.type = htole32(type),
		.sector = htole64(take_sector(input)),
	};
	struct fuzz_piece pieces[4] = {{&header, sizeof(header)}};
	unsigned count = 1;
	uint32_t length;
	uint8_t shape = fuzz_u8(input);

	if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES)
		length = take_ranges(input, bytes);
	else
		length = shape & 0x80 ? fuzz_u16(input) % FUZZ_PIECE_MAX : (shape & 7u) * 512u;
	if (length) {
		bool is_read = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;

		pieces[count++] = (struct fuzz_piece){is_read ? NULL : bytes, length};
		if (shape & 8) /* the same again */
			pieces[count++] = (struct fuzz_piece){is_read ? NULL : bytes, 512};
	}
	if (!(shape & 0x10) || shape & 0x20)
		pieces[count++] = (struct fuzz_piece){NULL, 1};
	fuzz_guest_send(guest, input, 0, pieces, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct virtio_device *device;
	struct fuzz_guest guest;
	struct block *block;
	char path[32];
	struct disk disk = {.fd = memfd_create("disk", MFD_CLOEXEC)};
	uint8_t kind = fuzz_u8(&input);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", disk.fd);
	if (disk.fd < 0 || ftruncate(disk.fd, DISK_BYTES) ||
	    block_open(path, kind & 1, "fuzz", &block, NULL))
		abort();
	fuzz_guest_create(&guest);
	guest.host = host;
	guest.request = request;
	guest.opaque = &disk;
	if (virtio_blk_create(guest.memory, guest.loop, block,
			      kind & 2 ? BLOCK_IO_POOL : BLOCK_IO_AUTO, &device))
		abort();
	fuzz_guest_run(&guest, device, &input);
	close(disk.fd);
	return 0;
}
