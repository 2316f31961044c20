/*
 * virtio-console (virtio 1.2, section 5.3): one port, with the size of the host's terminal if there
 * is one, and emergency writes.
 *
 * Nothing is lost and nothing grows. What the host does not take stays with the guest: its chain is
 * given back when all of it is written. What the guest gives no buffers for is refused, once
 * VIRTIO_CONSOLE_INPUT_MAX bytes wait here.
 *
 * Threads: the functions below may be called from any thread. They take a lock that is never held
 * while guest RAM is touched, so that they return even if guest memory can no longer be provided.
 */
#ifndef EBB_DEVICES_VIRTIO_CONSOLE_H
#define EBB_DEVICES_VIRTIO_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "devices/virtio_device.h"

#define VIRTIO_CONSOLE_INPUT_MAX 4096u

/* The host's side of the line. Called on the I/O thread (emergency writes: a vCPU's), not to block. */
struct virtio_console_host {
	void *opaque;
	/* Takes output: how many bytes. After less than @length, virtio_console_host_writable() is
	 * called when there is room. */
	size_t (*write)(void *opaque, const uint8_t *data, size_t length);
	/* Input that was refused can be offered again. */
	void (*receivable)(void *opaque);
};

/* @columns x @rows is the terminal's size; 0 x 0: there is none, and no size is offered. */
int virtio_console_create(const struct guest_memory *memory, struct event_loop *io_loop,
			  const struct virtio_console_host *host, uint16_t columns, uint16_t rows,
			  struct virtio_device **out);

/* Input for the guest: how many bytes were taken; the rest when host->receivable() is called. */
size_t virtio_console_receive(struct virtio_device *device, const uint8_t *data, size_t length);

void virtio_console_host_writable(struct virtio_device *device);

/* The terminal has a new size. No effect if it had none at the start. */
void virtio_console_resize(struct virtio_device *device, uint16_t columns, uint16_t rows);

#endif
