/* Reads and writes side by side: io_uring and threads give the same. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>

#include "swap/store_io.h"

#define PAGE  4096u
#define COUNT 300u

int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);

/* How many calls the kernel still takes; negative: all. */
static int submits_left = -1;

int __wrap_io_uring_submit(struct io_uring *ring)
{
	if (submits_left == 0)
		return -ENOMEM;
	submits_left -= submits_left > 0;
	return __real_io_uring_submit(ring);
}

struct files {
	int fd;
	struct store_io *io;
	struct store_io_queue *queue;
};

static struct files make(enum store_io_kind kind, unsigned depth)
{
	const char *dir = getenv("EBB_TEST_DIR");
	struct files files;

	files.fd = open(dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(files.fd >= 0);
	assert_int_equal(store_io_create(files.fd, PAGE, kind, &files.io), 0);
	assert_int_equal(store_io_queue_create(files.io, depth, &files.queue), 0);
	return files;
}

static void unmake(struct files files)
{
	store_io_queue_destroy(files.queue);
	store_io_destroy(files.io);
	close(files.fd);
}

static void many_are_under_way(enum store_io_kind kind)
{
	struct files files = make(kind, 8);
	static uint8_t out[COUNT][PAGE], in[COUNT][PAGE];
	static struct store_io_request requests[COUNT];

	for (int write = 1; write >= 0; write--) {
		for (size_t i = 0; i < COUNT; i++) {
			memset(out[i], (int)i, PAGE);
			requests[i] = (struct store_io_request){
				.buffer = write ? out[i] : in[i],
				.length = PAGE,
				.offset = (COUNT - 1 - i) * PAGE,
				.write = write,
			};
			store_io_submit(files.queue, &requests[i]);
		}
		store_io_kick(files.queue);
		/* The last first. */
		for (size_t i = COUNT; i-- > 0;)
			assert_int_equal(store_io_wait(files.queue, &requests[i]), 0);
	}

	assert_memory_equal(in, out, sizeof(in));
	unmake(files);
}

static void a_short_file(enum store_io_kind kind)
{
	struct files files = make(kind, 4);
	static uint8_t buffer[4 * PAGE];
	struct store_io_request request = {.buffer = buffer, .length = sizeof(buffer)};
	assert_int_equal(ftruncate(files.fd, PAGE + 100), 0);

	store_io_submit(files.queue, &request);
	store_io_kick(files.queue);

	assert_int_equal(store_io_wait(files.queue, &request), -ENODATA);
	assert_int_equal(store_io_transfer(files.io, &request), -ENODATA);
	unmake(files);
}

static void a_file_that_cannot_be_written(enum store_io_kind kind)
{
	uint8_t page[PAGE] = {0};
	struct store_io_request request = {.buffer = page, .length = PAGE, .write = true};
	struct store_io *io;
	struct store_io_queue *queue;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(store_io_create(fd, PAGE, kind, &io), 0);
	assert_int_equal(store_io_queue_create(io, 4, &queue), 0);

	store_io_submit(queue, &request);
	store_io_kick(queue);

	assert_int_equal(store_io_wait(queue, &request), -EBADF);
	store_io_queue_destroy(queue);
	store_io_destroy(io);
	close(fd);
}

static void polling_says_when_it_is_done(enum store_io_kind kind)
{
	struct files files = make(kind, 4);
	uint8_t page[PAGE] = {1};
	struct store_io_request request = {.buffer = page, .length = PAGE, .write = true};

	store_io_submit(files.queue, &request);
	store_io_kick(files.queue);
	while (!store_io_poll(files.queue, &request))
		usleep(100);

	assert_int_equal(request.result, 0);
	unmake(files);
}

static void a_ring_that_takes_nothing_more_loses_no_request(void **state)
{
	(void)state;
	/* Whatever hangs is to fail. */
	alarm(20);
	for (submits_left = 1; submits_left <= 3; submits_left++) {
		int before = submits_left;

		many_are_under_way(STORE_IO_AUTO);
		submits_left = before;
	}
	submits_left = -1;
	alarm(0);
}

#define both_ways(test)                                                                            \
	static void test##_with_io_uring(void **state)                                             \
	{                                                                                          \
		(void)state;                                                                       \
		test(STORE_IO_AUTO);                                                               \
	}                                                                                          \
	static void test##_with_threads(void **state)                                              \
	{                                                                                          \
		(void)state;                                                                       \
		test(STORE_IO_THREADS);                                                            \
	}

both_ways(many_are_under_way) both_ways(a_short_file) both_ways(a_file_that_cannot_be_written)
	both_ways(polling_says_when_it_is_done)

		int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(many_are_under_way_with_io_uring),
		cmocka_unit_test(many_are_under_way_with_threads),
		cmocka_unit_test(a_short_file_with_io_uring),
		cmocka_unit_test(a_short_file_with_threads),
		cmocka_unit_test(a_file_that_cannot_be_written_with_io_uring),
		cmocka_unit_test(a_file_that_cannot_be_written_with_threads),
		cmocka_unit_test(polling_says_when_it_is_done_with_io_uring),
		cmocka_unit_test(polling_says_when_it_is_done_with_threads),
		cmocka_unit_test(a_ring_that_takes_nothing_more_loses_no_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
