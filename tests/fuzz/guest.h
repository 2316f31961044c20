/*
 * A hostile virtio driver: interprets a fuzzer's bytes as what a guest does to one device.
 *
 * RAM, event loop and transport are made anew for each input and live on one thread: the loop is
 * turned where the input says so. The device is brought up with all its features first, its queues
 * laid out one behind the other, so that a few bytes reach deep; an input may undo all of that.
 *
 * Chains are of two kinds: what the input makes of descriptors one by one, and requests, whose
 * pieces the target has filled in as the device's protocol wants, and which may be damaged then.
 */
#ifndef EBB_TESTS_FUZZ_GUEST_H
#define EBB_TESTS_FUZZ_GUEST_H

#include "devices/virtio_mmio.h"
#include "memory/guest_memory.h"
#include "tests/fuzz/input.h"
#include "vmm/base/event_loop.h"

#define FUZZ_RAM        0x100000u
#define FUZZ_QUEUE_SIZE 16u
#define FUZZ_PIECE_MAX  0x2000u
#define FUZZ_PIECES_MAX 8u

struct fuzz_guest {
	struct guest_memory *memory;
	struct event_loop *loop;
	struct virtio_mmio *mmio;
	uint16_t next_available[VIRTIO_QUEUES_MAX];
	uint16_t next_descriptor; /* of requests */
	unsigned next_buffer;
	/* What the host's side of the device does when the input says so. Optional. */
	void (*host)(struct fuzz_guest *guest, struct fuzz_input *input);
	/* Sends a request in the device's own protocol. Optional. */
	void (*request)(struct fuzz_guest *guest, struct fuzz_input *input);
	void *opaque;
};

/* RAM and loop; the device comes next. */
void fuzz_guest_create(struct fuzz_guest *guest);

/* Takes @device over, drives it by @input to its end, and destroys everything. */
void fuzz_guest_run(struct fuzz_guest *guest, struct virtio_device *device,
		    struct fuzz_input *input);

/* One piece of a request: what the device shall read, or (@data NULL) room for it to write. */
struct fuzz_piece {
	const void *data;
	uint32_t length; /* FUZZ_PIECE_MAX at most */
};

/* Makes a chain of @pieces available, and kicks. Returns where its first piece is. */
gpa_t fuzz_guest_send(struct fuzz_guest *guest, struct fuzz_input *input, unsigned queue,
		      const struct fuzz_piece *pieces, unsigned count);

/* True if the device has used all that was made available to @queue. */
bool fuzz_guest_is_idle(const struct fuzz_guest *guest, unsigned queue);

/* The address of the buffer that the device used last in @queue; 0: none. */
gpa_t fuzz_guest_last_used(const struct fuzz_guest *guest, unsigned queue);

/* Lets the I/O loop serve what is ready. */
void fuzz_guest_turn(struct fuzz_guest *guest);

#endif
