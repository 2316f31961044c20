/*
 * The virtio block device (virtio 1.2, section 5.2): one request queue on one disk.
 *
 * Offers SEG_MAX, BLK_SIZE, FLUSH, and RO or DISCARD and WRITE_ZEROES. A driver that does not take
 * FLUSH gets writes that are durable when they complete.
 *
 * Threads and locks as in virtio_device.h. Each transfer runs inside the I/O gate of guest memory
 * (memory/io_gate.h); while that is closed, requests wait in the queue. A reset abandons the
 * requests that are under way and waits for their end, on whichever thread it is called, whether or
 * not the loop runs.
 */
#ifndef EBB_DEVICES_VIRTIO_BLK_H
#define EBB_DEVICES_VIRTIO_BLK_H

#include "devices/block.h"
#include "devices/block_io.h"
#include "devices/virtio_device.h"

/*
 * Makes a device of @block, which it owns from now on if this succeeds. @io_loop must outlive the
 * device, and must not run when virtio_device_destroy() is called. BLOCK_IO_AUTO is the right
 * @kind but for tests. 0 or -errno.
 */
int virtio_blk_create(const struct guest_memory *memory, struct event_loop *io_loop,
		      struct block *block, enum block_io_kind kind, struct virtio_device **out);

#endif
