/*
 * A hostile virtio driver: interprets a fuzzer's bytes as what a guest does to one device.
 *
 * RAM, event loop and transport are made anew for each input and live on one thread: the loop is
 * turned where the input says so. The device is brought up with all its features first, its queues
 * laid out one behind the other, so that a few bytes reach deep; an input may undo all of that.
 */
#ifndef EBB_TESTS_FUZZ_GUEST_H
#define EBB_TESTS_FUZZ_GUEST_H

#include "devices/virtio_mmio.h"
#include "memory/guest_memory.h"
#include "tests/fuzz/input.h"
#include "vmm/base/event_loop.h"

#define FUZZ_RAM        0x100000u
#define FUZZ_QUEUE_SIZE 16u

struct fuzz_guest {
	struct guest_memory *memory;
	struct event_loop *loop;
	struct virtio_mmio *mmio;
	uint16_t next_available[VIRTIO_QUEUES_MAX];
	/* What the host's side of the device does when the input says so. Optional. */
	void (*host)(struct fuzz_guest *guest, struct fuzz_input *input);
	void *opaque;
};

/* RAM and loop; the device comes next. */
void fuzz_guest_create(struct fuzz_guest *guest);

/* Takes @device over, drives it by @input to its end, and destroys everything. */
void fuzz_guest_run(struct fuzz_guest *guest, struct virtio_device *device,
		    struct fuzz_input *input);

/* Lets the I/O loop serve what is ready. */
void fuzz_guest_turn(struct fuzz_guest *guest);

#endif
