/* A virtio-blk device on a file of numbered sectors, for its tests: fixture and requests. */
#ifndef EBB_TESTS_VIRTIO_BLK_FIXTURE_H
#define EBB_TESTS_VIRTIO_BLK_FIXTURE_H

#include <linux/virtio_blk.h>
#include <stdio.h>

#include "devices/virtio_blk.h"
#include "virtio_driver.h"

/* Each 32-bit word of the disk holds the number of its sector. */
#define DISK_SIZE (1u << 20)

#define HEADER VIRTIO_DRIVER_DATA
#define STATUS (VIRTIO_DRIVER_DATA + 0x100)
#define RANGE  (VIRTIO_DRIVER_DATA + 0x200)
#define TABLE  (VIRTIO_DRIVER_DATA + 0x1000)
#define DATA   (VIRTIO_DRIVER_DATA + 0x10000)

#define NO_STATUS 0xee

#define ALL_FEATURES                                                                               \
	(VIRTIO_FEATURE(VIRTIO_BLK_F_FLUSH) | VIRTIO_FEATURE(VIRTIO_BLK_F_DISCARD) |               \
	 VIRTIO_FEATURE(VIRTIO_BLK_F_WRITE_ZEROES))

struct fixture {
	char path[64];
	struct virtio_driver driver;
	struct virtio_device *device; /* NULL: the host has no io_uring */
	struct ring *ring;
	uint32_t written; /* of the last request */
	FILE *messages;   /* in place of standard error */
	int stderr_fd;
};

/*
 * For cmocka. *@state is an enum block_io_kind before, the fixture afterwards. If the host refuses
 * io_uring, that is told, and blk_start() skips the test.
 */
int blk_setup(void **state);
int blk_setup_read_only(void **state);
int blk_teardown(void **state);

/* The driver starts the device (again), with VERSION_1 and @features. */
struct fixture *blk_start(void **state, uint64_t features);

/* Writes a request's header to HEADER, and NO_STATUS to STATUS. */
void blk_put_header(struct fixture *f, uint32_t type, uint64_t sector);

/* Waits for a request; returns the byte at @gpa. */
uint8_t blk_take_status(struct fixture *f, gpa_t gpa);

/* A request of header, data and status; returns the status byte. */
uint8_t blk_request(struct fixture *f, uint32_t type, uint64_t sector, gpa_t data, uint32_t length,
		    bool device_writes);

/* Between DATA and the disk. */
uint8_t blk_read(struct fixture *f, uint64_t sector, uint32_t length);
uint8_t blk_write(struct fixture *f, uint64_t sector, uint32_t length);

uint32_t blk_word_at(struct fixture *f, gpa_t gpa);

/* Catches warnings from now on, for tests of what is not said; how many bytes there were, and no
 * more of it. */
void blk_catch_messages(struct fixture *f);
long blk_caught_messages(struct fixture *f);

/* What to call the back ends in a test's name, and the state to start with. */
extern enum block_io_kind blk_uring;
extern enum block_io_kind blk_pool;

#define BLK_TEST(test, set, kind)                                                                  \
	{                                                                                          \
		.name = #test " (" #kind ")", .test_func = test, .setup_func = set,                \
		.teardown_func = blk_teardown, .initial_state = &blk_##kind                        \
	}
#define BLK_POOL(name) BLK_TEST(name, blk_setup, pool)
#define BLK_BOTH(name) BLK_TEST(name, blk_setup, uring), BLK_TEST(name, blk_setup, pool)

#endif
