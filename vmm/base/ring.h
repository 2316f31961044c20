/*
 * An io_uring(7) that does nothing but what it is for. System call filters do not see what is asked of
 * a ring, so a ring of this kind refuses by itself: other operations, and registering anything, with
 * -EACCES (io_uring_register(2), IORING_REGISTER_RESTRICTIONS; Linux 5.10). Older kernels give an
 * unrestricted one. It is the caller's, and ends by io_uring_queue_exit().
 */
#ifndef EBB_VMM_BASE_RING_H
#define EBB_VMM_BASE_RING_H

#include <liburing.h>
#include <stddef.h>
#include <stdint.h>

/* Not running yet: this is the time to register what it needs. 0 or -errno. */
int ring_create(struct io_uring *ring, unsigned depth);

/* Whether the kernel has all of these operations, IORING_OP_*: 0, -EOPNOTSUPP or other -errno. */
int ring_check(struct io_uring *ring, const uint8_t *operations, size_t count);

/* It runs, and does these alone. 0 or -errno. */
int ring_start(struct io_uring *ring, const uint8_t *operations, size_t count);

#endif
