/* A ring does what it is for, and nothing else that code behind a system call filter could ask of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/base/checked.h"
#include "vmm/base/ring.h"

static const uint8_t operations[] = {IORING_OP_READ};

/* A kernel may forbid rings, and an old one does not restrict them. */
static int setup(void **state)
{
	struct io_uring *ring = calloc(1, sizeof(*ring));

	*state = NULL;
	if (ring_create(ring, 4)) {
		free(ring);
		return 0;
	}
	assert_int_equal(ring_start(ring, operations, ARRAY_SIZE(operations)), 0);
	*state = ring;
	return 0;
}

static int teardown(void **state)
{
	if (*state)
		io_uring_queue_exit(*state);
	free(*state);
	return 0;
}

static struct io_uring *ring_of(void **state)
{
	struct io_uring *ring = *state;

	if (!ring || !(ring->flags & IORING_SETUP_R_DISABLED))
		skip();
	return ring;
}

static int result_of(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int result;

	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static void it_does_what_it_is_for(void **state)
{
	struct io_uring *ring = ring_of(state);
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	char bytes[16] = "not zero";

	io_uring_prep_read(io_uring_get_sqe(ring), fd, bytes, sizeof(bytes), 0);
	assert_int_equal(result_of(ring), sizeof(bytes));
	assert_int_equal(bytes[0], 0);
	close(fd);
}

static void it_opens_nothing(void **state)
{
	struct io_uring *ring = ring_of(state);

	io_uring_prep_openat(io_uring_get_sqe(ring), AT_FDCWD, "/dev/zero", O_RDONLY, 0);
	assert_int_equal(result_of(ring), -EACCES);
}

static void it_connects_to_nothing(void **state)
{
	struct io_uring *ring = ring_of(state);
	const struct sockaddr address = {.sa_family = AF_UNIX};

	io_uring_prep_connect(io_uring_get_sqe(ring), 0, &address, sizeof(address));
	assert_int_equal(result_of(ring), -EACCES);
}

static void nothing_more_is_registered(void **state)
{
	struct io_uring *ring = ring_of(state);
	int fd = eventfd(0, EFD_CLOEXEC);

	assert_int_equal(io_uring_register_eventfd(ring, fd), -EACCES);
	assert_int_equal(io_uring_register_personality(ring), -EACCES);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(it_does_what_it_is_for, setup, teardown),
		cmocka_unit_test_setup_teardown(it_opens_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(it_connects_to_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_more_is_registered, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
