/*
 * The virtio MMIO transport, register interface version 2 (virtio 1.2, section 4.2).
 *
 * One transport carries one device, which it owns. It is attached to the MMIO bus with
 * virtio_mmio_bus_ops and needs VIRTIO_MMIO_SIZE bytes there.
 *
 * Kicks: each queue has an eventfd that the I/O event loop serves. The machine may bind it to the
 * QueueNotify register (KVM_IOEVENTFD: offset VIRTIO_MMIO_NOTIFY_OFFSET, 4 bytes, datamatch = queue
 * index), so that a kick never leaves the kernel; a plain write to the register does the same.
 * Interrupts: an eventfd for KVM_IRQFD, edge-triggered: the InterruptStatus bit is set first, then
 * the eventfd is written.
 *
 * Locking: device->lock guards the registers, InterruptStatus and InterruptACK excepted, which are
 * atomic. A reset may drop the lock while transfers end; other register accesses wait for it.
 */
#ifndef EBB_DEVICES_VIRTIO_MMIO_H
#define EBB_DEVICES_VIRTIO_MMIO_H

#include "devices/bus.h"
#include "devices/virtio_device.h"
#include "vmm/base/event_loop.h"

#define VIRTIO_MMIO_SIZE          0x200u
#define VIRTIO_MMIO_NOTIFY_OFFSET 0x50u

struct virtio_mmio;

/*
 * Takes ownership of @device on success; on failure the caller still has it. @io_loop is the one
 * the device was created with. 0 or -errno.
 */
int virtio_mmio_create(struct virtio_device *device, struct event_loop *io_loop,
		       struct virtio_mmio **out);

/* Destroys the device too. The I/O loop does not run. NULL is legal. */
void virtio_mmio_destroy(struct virtio_mmio *mmio);

/*
 * What a machine reset does: waits for the device's transfers, then everything is as created. The
 * vCPUs are stopped; the I/O loop runs, or nothing is under way. Not on the I/O thread. There is a
 * limit because a transfer does not end while guest memory cannot be provided, and who touches such
 * memory holds the device's lock. 0, or -ETIMEDOUT after about @timeout_ns: transfers may still run,
 * so the guest must not. Another try is legal.
 */
int virtio_mmio_reset(struct virtio_mmio *mmio, uint64_t timeout_ns);

/* The interrupt's eventfd. Owned by the transport. */
int virtio_mmio_irq_fd(const struct virtio_mmio *mmio);

unsigned virtio_mmio_queue_count(const struct virtio_mmio *mmio);

/* The eventfd that stands for kicks of queue @index < virtio_mmio_queue_count(). */
int virtio_mmio_queue_eventfd(const struct virtio_mmio *mmio, unsigned index);

struct virtio_device *virtio_mmio_device(struct virtio_mmio *mmio);

/* The bus device is the struct virtio_mmio. */
extern const struct bus_ops virtio_mmio_bus_ops;

/*
 * An empty slot: a transport with DeviceID 0, which drivers skip (section 4.2.3.1). Attach with a
 * NULL device.
 */
extern const struct bus_ops virtio_mmio_placeholder_bus_ops;

#endif
