/*
 * The virtio memory balloon (virtio 1.2, section 5.5): the guest gives pages back.
 *
 * Offers STATS_VQ, DEFLATE_ON_OOM and PAGE_REPORTING. Pages that the guest puts into the balloon,
 * or reports as free, are discarded (guest_memory_discard()); taking pages out of the balloon needs
 * no work, as they come back when touched.
 *
 * Threads and locks as in virtio_device.h; the functions below lock the device themselves and may
 * be called from any thread.
 */
#ifndef EBB_DEVICES_VIRTIO_BALLOON_H
#define EBB_DEVICES_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio_device.h"

/* The numbers are the tags of section 5.5.6.3; from OOM_KILL on, those that Linux 6.12 added. */
enum virtio_balloon_stat {
	VIRTIO_BALLOON_STAT_SWAP_IN,      /* bytes */
	VIRTIO_BALLOON_STAT_SWAP_OUT,     /* bytes */
	VIRTIO_BALLOON_STAT_MAJOR_FAULTS, /* count */
	VIRTIO_BALLOON_STAT_MINOR_FAULTS, /* count */
	VIRTIO_BALLOON_STAT_FREE,         /* bytes */
	VIRTIO_BALLOON_STAT_TOTAL,        /* bytes */
	VIRTIO_BALLOON_STAT_AVAILABLE,    /* bytes */
	VIRTIO_BALLOON_STAT_DISK_CACHES,  /* bytes */
	VIRTIO_BALLOON_STAT_HUGE_ALLOCATIONS,
	VIRTIO_BALLOON_STAT_HUGE_FAILURES,
	VIRTIO_BALLOON_STAT_OOM_KILLS,
	VIRTIO_BALLOON_STAT_ALLOCATION_STALLS,
	VIRTIO_BALLOON_STAT_ASYNC_SCANS,
	VIRTIO_BALLOON_STAT_DIRECT_SCANS,
	VIRTIO_BALLOON_STAT_ASYNC_RECLAIMS,
	VIRTIO_BALLOON_STAT_DIRECT_RECLAIMS,
	VIRTIO_BALLOON_STATS
};

struct virtio_balloon_status {
	uint64_t actual_bytes;   /* what the driver says is in the balloon; RAM's size at most */
	uint64_t target_bytes;   /* what it was asked for */
	uint64_t inflated_bytes; /* discarded through the inflate queue so far, repeats included */
	uint64_t deflated_bytes; /* taken back through the deflate queue so far */
	uint64_t reported_bytes; /* discarded by free page reporting so far */
	bool stats_valid;        /* the driver sent statistics since its last reset */
	uint64_t stats_age_ns;   /* since they arrived */
	uint32_t stats_present;  /* bit N: stats[N] was among them */
	uint64_t stats[VIRTIO_BALLOON_STATS];
};

/*
 * @io_loop must outlive the device, and must not run when virtio_device_destroy() is called. 0 or
 * -errno.
 */
int virtio_balloon_create(const struct guest_memory *memory, struct event_loop *io_loop,
			  struct virtio_device **out);

/*
 * @moved(@opaque) is called when the driver says that another amount is in the balloon, from then on,
 * on the vCPU's thread and without locks of the status. Before the device is used.
 */
void virtio_balloon_set_listener(struct virtio_device *device, void (*moved)(void *opaque),
				 void *opaque);

/*
 * Asks the driver to have @bytes (rounded down to whole pages) in the balloon. It may take its
 * time, or never comply. 0, or -ERANGE if that is more than RAM.
 */
int virtio_balloon_set_target(struct virtio_device *device, uint64_t bytes);

/*
 * What is known at this moment. If the statistics are older than a second, the driver is asked for
 * new ones, which a later call sees: no timer does it, for that would keep an idle guest awake.
 */
void virtio_balloon_get_status(struct virtio_device *device, struct virtio_balloon_status *status);

#endif
