#include "vmm/base/ring.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPERATIONS_MAX 16

int ring_create(struct io_uring *ring, unsigned depth)
{
	int result = io_uring_queue_init(depth, ring, IORING_SETUP_R_DISABLED);

	return result == -EINVAL ? io_uring_queue_init(depth, ring, 0) : result;
}

int ring_check(struct io_uring *ring, const uint8_t *operations, size_t count)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	int result = probe ? 0 : -EOPNOTSUPP;

	for (size_t i = 0; probe && i < count; i++) {
		if (!io_uring_opcode_supported(probe, operations[i]))
			result = -EOPNOTSUPP;
	}
	io_uring_free_probe(probe);
	return result;
}

/* Some builds of liburing 2.3 have the functions for these in the header alone. */
static int call(const struct io_uring *ring, unsigned operation, const void *argument,
		unsigned count)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, operation, argument, count) < 0
		       ? -errno
		       : 0;
}

int ring_start(struct io_uring *ring, const uint8_t *operations, size_t count)
{
	struct io_uring_restriction allowed[OPERATIONS_MAX] = {0};
	int result;

	if (!(ring->flags & IORING_SETUP_R_DISABLED))
		return 0;
	if (count > OPERATIONS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < count; i++) {
		allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
		allowed[i].sqe_op = operations[i];
	}
	result = call(ring, IORING_REGISTER_RESTRICTIONS, allowed, (unsigned)count);
	return result ? result : call(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}
