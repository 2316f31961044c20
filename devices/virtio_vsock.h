/*
 * virtio-vsock (virtio 1.2, section 5.10): streams between programs of the guest and of the host,
 * where the host's side is Unix sockets; see vsock_muxer.h for how they are found.
 *
 * Bytes that the host sends are read from its sockets when the guest has given buffers for them.
 * Packets are taken from the guest as long as the answers that they provoke find room. The event
 * queue is there and stays silent: its one event, TRANSPORT_RESET, is for a device that has lost its
 * connections while the driver runs, and this one loses them only when the driver resets it.
 */
#ifndef EBB_DEVICES_VIRTIO_VSOCK_H
#define EBB_DEVICES_VIRTIO_VSOCK_H

#include "devices/virtio_device.h"
#include "vmm/base/error.h"

/*
 * Listens at the Unix socket @path. @guest_cid lies between VSOCK_GUEST_CID_MIN and _MAX
 * (vsock_packet.h). 0, or -errno with one line in @err.
 */
int virtio_vsock_create(const struct guest_memory *memory, struct event_loop *io_loop,
			const char *path, uint32_t guest_cid, struct virtio_device **out,
			struct error *err);

/* Removes the socket's file and nothing else: for a program that leaves without destroying. */
void virtio_vsock_remove_socket(struct virtio_device *device);

#endif
