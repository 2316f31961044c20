/*
 * Where the frames of a virtio-net device go to and come from: a tap interface, a user-mode network
 * stack behind a socket.
 *
 * Every frame carries a struct virtio_net_hdr_v1 in front (virtio 1.2, section 5.1.6), which the
 * backend makes or understands as far as its offloads go. The device checks what the guest says;
 * a backend need not trust the other side of its descriptor, but it must not trust more than that.
 *
 * I/O thread only, but for creation and destruction. The device watches @fd on its event loop: it
 * calls receive() when it is readable, and send() again, after -EAGAIN, once it is writable.
 */
#ifndef EBB_DEVICES_NET_BACKEND_H
#define EBB_DEVICES_NET_BACKEND_H

#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "devices/virtqueue.h"

/* A frame of the largest segment that offloads make, with its header. */
#define NET_FRAME_MAX (65536u + 128u)

/* In so many pieces a frame may lie in guest memory. */
#define NET_FRAME_PIECES_MAX (VIRTQ_SEGMENTS_MAX + GUEST_MEMORY_REGIONS_MAX)

struct net_backend;

struct net_backend_ops {
	const char *name; /* "tap": for messages */
	/*
	 * Takes the next frame, header first, into @buffer (NET_FRAME_MAX bytes). Its size, or
	 * -EAGAIN: none is there; any other -errno: the backend is gone for good.
	 */
	ssize_t (*receive)(struct net_backend *backend, void *buffer);
	/*
	 * Sends one frame from guest memory, of NET_FRAME_PIECES_MAX pieces at most. 0 (sent, or
	 * dropped as a network may), -EAGAIN: not taken, try again when @fd is writable; any other
	 * -errno: the backend is gone for good.
	 */
	int (*send)(struct net_backend *backend, const struct virtio_net_hdr_v1 *header,
		    const struct iovec *frame, size_t count);
	/* The driver has chosen among @offloads: none other may be used. 0 or -errno. Optional. */
	int (*set_offloads)(struct net_backend *backend, uint64_t features);
	void (*destroy)(struct net_backend *backend);
};

/* Embedded first in each backend's own struct. */
struct net_backend {
	const struct net_backend_ops *ops;
	int fd;            /* non-blocking */
	uint64_t offloads; /* VIRTIO_NET_F_* (as VIRTIO_FEATURE masks) that it can do */
	uint16_t mtu;      /* told to the driver, if it is not 0 */
};

/* NULL is legal. */
static inline void net_backend_destroy(struct net_backend *backend)
{
	if (backend)
		backend->ops->destroy(backend);
}

#endif
