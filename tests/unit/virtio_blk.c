/* virtio-blk over a real ring and a real file, with each back end. */
#include "devices/virtio_blk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "memory/io_gate.h"
#include "virtio_driver.h"
#include "vmm/base/log.h"
#include "vmm/base/size.h"

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
};

static int make_disk(struct fixture *f)
{
	int fd;

	strcpy(f->path, "/tmp/ebb-virtio-blk-XXXXXX");
	fd = mkstemp(f->path);
	if (fd < 0)
		return -1;
	for (unsigned sector = 0; sector < DISK_SIZE / 512; sector++) {
		uint32_t data[128];

		for (unsigned i = 0; i < 128; i++)
			data[i] = sector;
		if (write(fd, data, sizeof(data)) != sizeof(data))
			return -1;
	}
	return close(fd);
}

static int setup_disk(void **state, bool read_only)
{
	enum block_io_kind kind = *(const enum block_io_kind *)*state;
	struct fixture *f = calloc(1, sizeof(*f));
	struct block *block = NULL;
	int result;

	if (make_disk(f))
		return -1;
	assert_int_equal(block_open(f->path, read_only, "test-disk", &block, NULL), 0);
	virtio_driver_setup(&f->driver, 4 * MIB);
	result = virtio_blk_create(f->driver.memory, f->driver.loop, block, kind, &f->device);
	if (result) {
		assert_int_equal(kind, BLOCK_IO_URING);
		print_message("SKIP: this host refuses io_uring: %s\n", strerror(-result));
		block_close(block);
	} else {
		virtio_driver_attach(&f->driver, f->device);
	}
	f->ring = &f->driver.rings[0];
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_disk(state, false);
}

static int setup_read_only(void **state)
{
	return setup_disk(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	virtio_driver_teardown(&f->driver);
	unlink(f->path);
	free(f);
	return 0;
}

static struct fixture *start(void **state, uint64_t features)
{
	struct fixture *f = *state;

	if (!f->device)
		skip();
	virtio_driver_start(&f->driver, features);
	return f;
}

static void put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	const uint8_t status = NO_STATUS;

	ring_write(f->ring, HEADER, &header, sizeof(header));
	ring_write(f->ring, STATUS, &status, 1);
}

static uint8_t take_status(struct fixture *f, gpa_t gpa)
{
	uint16_t head;
	uint8_t status;

	assert_true(virtio_driver_wait_used(&f->driver, 0, &head, &f->written));
	ring_read(f->ring, gpa, &status, 1);
	return status;
}

/* A request of header, data and status; returns the status byte. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, gpa_t data,
		       uint32_t length, bool device_writes)
{
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},
		{data, length, device_writes},
		{STATUS, 1, true},
	};

	put_header(f, type, sector);
	ring_add(f->ring, buffers, 3);
	virtio_driver_kick(&f->driver, 0);
	return take_status(f, STATUS);
}

static uint8_t read_sectors(struct fixture *f, uint64_t sector, uint32_t length)
{
	return request(f, VIRTIO_BLK_T_IN, sector, DATA, length, true);
}

static uint8_t write_sectors(struct fixture *f, uint64_t sector, uint32_t length)
{
	return request(f, VIRTIO_BLK_T_OUT, sector, DATA, length, false);
}

static uint8_t range_request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t sectors,
			     uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes range = {
		.sector = sector,
		.num_sectors = sectors,
		.flags = flags,
	};

	ring_write(f->ring, RANGE, &range, sizeof(range));
	return request(f, type, 0, RANGE, sizeof(range), false);
}

static uint32_t word_at(struct fixture *f, gpa_t gpa)
{
	uint32_t word;

	ring_read(f->ring, gpa, &word, sizeof(word));
	return word;
}

static uint32_t disk_word(struct fixture *f, off_t offset)
{
	uint32_t word = 0;
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(pread(fd, &word, sizeof(word), offset), sizeof(word));
	close(fd);
	return word;
}

static blkcnt_t disk_blocks(struct fixture *f)
{
	struct stat st;
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	return st.st_blocks;
}

static void assert_broken(struct fixture *f)
{
	assert_true(virtio_driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
}

static void config_describes_the_disk(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(virtio_driver_read_config(&f->driver, 0, 8), DISK_SIZE / 512);
	assert_int_equal(virtio_driver_read_config(&f->driver, 12, 4), 254);
	assert_int_equal(virtio_driver_read_config(&f->driver, 20, 4), 512);
	assert_int_equal(virtio_driver_read_config(&f->driver, 36, 4), 1u << 22);
	assert_int_equal(virtio_driver_read_config(&f->driver, 0xf0, 4), 0);
}

static void offers_what_it_can_do(void **state)
{
	struct fixture *f = start(state, 0);
	uint64_t features = virtio_driver_offered_features(&f->driver);

	assert_int_equal(features & ALL_FEATURES, ALL_FEATURES);
	assert_true(features & VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX));
	assert_true(features & VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE));
	assert_false(features & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
}

static void reads_sectors(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(read_sectors(f, 7, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1025);
	assert_int_equal(word_at(f, DATA), 7);
	assert_int_equal(word_at(f, DATA + 512), 8);
	assert_int_equal(word_at(f, DATA + 1024), 0);
}

static void reads_the_last_sector(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(read_sectors(f, DISK_SIZE / 512 - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(word_at(f, DATA), DISK_SIZE / 512 - 1);
}

static void writes_sectors(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(guest_memory_fill(f->driver.memory, DATA, 0xab, 1024), 0);
	assert_int_equal(write_sectors(f, 3, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(disk_word(f, 2 * 512), 2);
	assert_int_equal(disk_word(f, 3 * 512), 0xabababab);
	assert_int_equal(disk_word(f, 5 * 512 - 4), 0xabababab);
	assert_int_equal(disk_word(f, 5 * 512), 5);
}

static void writes_for_a_driver_that_never_flushes(void **state)
{
	struct fixture *f = start(state, 0);

	assert_int_equal(guest_memory_fill(f->driver.memory, DATA, 0xab, 512), 0);
	assert_int_equal(write_sectors(f, 3, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_word(f, 3 * 512), 0xabababab);
}

static void flushes(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {STATUS, 1, true}};

	put_header(f, VIRTIO_BLK_T_FLUSH, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
}

static void tells_its_id(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	char id[20] = {0};

	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 20, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 21);
	ring_read(f->ring, DATA, id, sizeof(id));
	assert_memory_equal(id, "test-disk\0\0\0\0\0\0\0\0\0\0\0", 20);
}

static void id_fits_any_buffer(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 4, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 5);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 64, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 20);
}

static void discards(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	blkcnt_t before = disk_blocks(f);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 128, 256, 0), VIRTIO_BLK_S_OK);
	assert_true(disk_blocks(f) <= before - 256);
	assert_int_equal(disk_word(f, 127 * 512), 127);
	assert_int_equal(disk_word(f, 384 * 512), 384);
}

static void writes_zeroes(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	for (uint32_t unmap = 0; unmap < 2; unmap++) {
		uint32_t sector = 129 + unmap * 512;

		assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, sector, 100, unmap),
				 VIRTIO_BLK_S_OK);
		assert_int_equal(disk_word(f, (sector - 1) * 512), sector - 1);
		assert_int_equal(disk_word(f, sector * 512), 0);
		assert_int_equal(disk_word(f, (sector + 100) * 512 - 4), 0);
		assert_int_equal(disk_word(f, (sector + 100) * 512), sector + 100);
	}
}

static void refuses_bad_ranges(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct fixture *f = start(state, ALL_FEATURES);

	for (unsigned i = 0; i < 2; i++) {
		uint32_t type = types[i];

		assert_int_equal(range_request(f, type, 2047, 2, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, UINT64_MAX, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 1ull << 55, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 0, 1, 0x80), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(request(f, type, 0, RANGE, 15, false), VIRTIO_BLK_S_IOERR);
		assert_int_equal(request(f, type, 0, RANGE, 32, false), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_word(f, 512), 1);
}

static void refuses_ranges_that_were_not_negotiated(void **state)
{
	struct fixture *f = start(state, 0);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

static void refuses_unknown_requests(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(request(f, 99, 0, DATA, 512, true), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->written, 0);
	assert_int_equal(request(f, UINT32_MAX, 0, DATA, 512, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->written, 1);
}

static void refuses_what_lies_off_the_disk(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	static const uint64_t sectors[] = {
		DISK_SIZE / 512,  DISK_SIZE / 512 - 1, /* two sectors do not fit */
		1ull << 55,                            /* 2^64 bytes */
		(1ull << 55) + 1, UINT64_MAX,          UINT64_MAX / 512,
	};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		assert_int_equal(read_sectors(f, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->written, 0);
		assert_int_equal(write_sectors(f, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(disk_word(f, 512), 1);
}

static void refuses_odd_lengths(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(read_sectors(f, 0, 100), VIRTIO_BLK_S_IOERR);
	assert_int_equal(write_sectors(f, 0, 513), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_word(f, 512), 1);
}

static void read_only_disk_refuses_changes(void **state)
{
	struct fixture *f = start(state, 0);

	assert_true(virtio_driver_offered_features(&f->driver) & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	assert_int_equal(write_sectors(f, 1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(read_sectors(f, 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(word_at(f, DATA), 1);
}

static void data_may_be_in_several_segments(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},      {DATA, 100, true},          {DATA + 0x1000, 412, true},
		{DATA + 0x2001, 1, true}, {DATA + 0x3000, 511, true}, {STATUS, 1, true},
	};

	put_header(f, VIRTIO_BLK_T_IN, 9);
	ring_add(f->ring, buffers, 6);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1025);
	assert_int_equal(word_at(f, DATA + 96), 9);
	assert_int_equal(word_at(f, DATA + 0x1000), 9);
	assert_int_equal(word_at(f, DATA + 0x3003), 10);
}

static void many_segments_by_an_indirect_table(void **state)
{
	struct fixture *f =
		start(state, ALL_FEATURES | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	struct ring_buffer buffers[256];

	buffers[0] = (struct ring_buffer){HEADER, 16, false};
	for (unsigned i = 1; i < 255; i++)
		buffers[i] = (struct ring_buffer){DATA + i * 1024, 512, true};
	buffers[255] = (struct ring_buffer){STATUS, 1, true};
	put_header(f, VIRTIO_BLK_T_IN, 1000);
	ring_publish(f->ring, ring_chain_indirect(f->ring, TABLE, buffers, 256));
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 254 * 512 + 1);
	for (unsigned i = 1; i < 255; i++)
		assert_int_equal(word_at(f, DATA + i * 1024), 999 + i);
}

static void header_may_be_split(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {
		{HEADER, 1, false},      {HEADER + 1, 7, false}, {HEADER + 8, 5, false},
		{HEADER + 13, 3, false}, {DATA, 512, true},      {STATUS, 1, true},
	};

	put_header(f, VIRTIO_BLK_T_IN, 11);
	ring_add(f->ring, buffers, 6);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(word_at(f, DATA), 11);
}

static void header_and_data_may_share_a_segment(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16 + 512, false}, {DATA, 1, true}};

	put_header(f, VIRTIO_BLK_T_OUT, 4);
	assert_int_equal(guest_memory_fill(f->driver.memory, HEADER + 16, 0xcd, 512), 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, DATA), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_word(f, 4 * 512), 0xcdcdcdcd);
}

static void status_may_share_the_last_segment(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {DATA, 513, true}};

	put_header(f, VIRTIO_BLK_T_IN, 12);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(take_status(f, DATA + 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 513);
	assert_int_equal(word_at(f, DATA), 12);
}

static void no_room_for_the_status_breaks_the_device(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {DATA, 512, false}};

	put_header(f, VIRTIO_BLK_T_OUT, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_broken(f);
	assert_int_equal(disk_word(f, 512), 1);
}

static void short_header_breaks_the_device_until_a_reset(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 15, false}, {STATUS, 1, true}};

	put_header(f, VIRTIO_BLK_T_FLUSH, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_broken(f);

	start(state, ALL_FEATURES);
	assert_int_equal(read_sectors(f, 2, 512), VIRTIO_BLK_S_OK);
}

static void shrunken_file_gives_an_error(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	assert_int_equal(truncate(f->path, 4096), 0);
	assert_int_equal(read_sectors(f, 100, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->written, 0);
	assert_int_equal(read_sectors(f, 7, 512), VIRTIO_BLK_S_OK);
}

static void serves_many_requests_by_event_index(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES | VIRTIO_FEATURE(VIRTIO_RING_F_EVENT_IDX));
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},
		{DATA, 512, true},
		{STATUS, 1, true},
	};

	for (unsigned i = 0; i < 200; i++) {
		uint16_t before = f->ring->next_available;

		put_header(f, VIRTIO_BLK_T_IN, i);
		ring_set_used_event(f->ring, f->ring->next_used);
		ring_add(f->ring, buffers, 3);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (ring_available_event(f->ring) == before)
			virtio_driver_kick(&f->driver, 0);
		assert_int_equal(virtio_driver_wait_interrupt(&f->driver), VIRTIO_MMIO_INT_VRING);
		assert_int_equal(take_status(f, STATUS), VIRTIO_BLK_S_OK);
		assert_int_equal(word_at(f, DATA), i);
	}
}

/* Reads at a time; each has its own data and status byte. */
#define READS 5u

static void add_reads(struct fixture *f)
{
	put_header(f, VIRTIO_BLK_T_IN, 0);
	for (unsigned i = 0; i < READS; i++) {
		const struct ring_buffer buffers[] = {
			{HEADER, 16, false},
			{DATA + i * 65536, 65536, true},
			{STATUS + i, 1, true},
		};

		ring_add(f->ring, buffers, 3);
	}
}

static void assert_reads_succeed(struct fixture *f)
{
	uint8_t status[READS];

	for (unsigned i = 0; i < READS; i++)
		take_status(f, HEADER);
	ring_read(f->ring, STATUS, status, sizeof(status));
	for (unsigned i = 0; i < READS; i++)
		assert_int_equal(status[i], VIRTIO_BLK_S_OK);
}

static void closed_gate_holds_requests_back(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	io_gate_close(gate);
	add_reads(f);
	virtio_driver_kick(&f->driver, 0);
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	assert_int_equal(ring_used_index(f->ring), 0);

	io_gate_open(gate);
	assert_reads_succeed(f);
}

static void gate_closes_while_requests_keep_coming(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	for (unsigned round = 0; round < 100; round++) {
		add_reads(f);
		virtio_driver_kick(&f->driver, 0);
		io_gate_close(gate);
		io_gate_open(gate);
		assert_reads_succeed(f);
	}
}

/* Takes the requests on this thread, so that they are under way for certain. */
static void serve_here(struct fixture *f)
{
	pthread_mutex_lock(&f->device->lock);
	f->device->ops->serve_queue(f->device, 0);
	pthread_mutex_unlock(&f->device->lock);
}

static void assert_at_rest(struct fixture *f)
{
	struct io_gate *gate = guest_memory_io_gate(f->driver.memory);

	assert_int_equal(virtio_driver_read(&f->driver, VIRTIO_MMIO_STATUS), 0);
	io_gate_close(gate); /* sleeps for ever if a request is still counted */
	io_gate_open(gate);
}

static void reset_waits_for_requests(void **state)
{
	struct fixture *f = *state;

	for (unsigned round = 0; round < 50; round++) {
		start(state, ALL_FEATURES);
		add_reads(f);
		serve_here(f);
		virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
		assert_at_rest(f);
	}
	start(state, ALL_FEATURES);
	assert_int_equal(read_sectors(f, 2, 512), VIRTIO_BLK_S_OK);
}

static void reset_works_when_the_loop_does_not_run(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	serve_here(f);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
	assert_at_rest(f);
}

static void serve_and_reset(void *opaque, uint32_t events)
{
	struct fixture *f = opaque;

	(void)events;
	serve_here(f);
	virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
	event_loop_stop(f->driver.loop);
}

static void reset_works_on_the_loops_thread(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	assert_int_equal(event_loop_add(f->driver.loop, fd, EPOLLIN, serve_and_reset, f, NULL), 0);
	assert_int_equal(event_loop_run(f->driver.loop), 0);
	assert_at_rest(f);
	close(fd);
}

static void *serve_and_end(void *opaque)
{
	serve_here(opaque);
	return NULL;
}

/* The kernel cancels what a thread that ends has left in an io_uring. */
static void reset_finds_requests_of_a_thread_that_ended(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);
	const struct ring_buffer flush[] = {{HEADER + 16, 16, false}, {STATUS + READS, 1, true}};
	const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_FLUSH};
	pthread_t thread;

	virtio_driver_stop_loop(&f->driver);
	for (unsigned round = 0; round < 20; round++) {
		virtio_driver_start(&f->driver, ALL_FEATURES);
		ring_write(f->ring, HEADER + 16, &header, sizeof(header));
		ring_add(f->ring, flush, 2);
		for (unsigned i = 0; i < 3; i++)
			ring_publish(f->ring, 0); /* the same flush, four times in all */
		assert_int_equal(pthread_create(&thread, NULL, serve_and_end, f), 0);
		pthread_join(thread, NULL);
		virtio_driver_write(&f->driver, VIRTIO_MMIO_STATUS, 0);
		assert_at_rest(f);
	}
}

static void destruction_waits_for_requests(void **state)
{
	struct fixture *f = start(state, ALL_FEATURES);

	virtio_driver_stop_loop(&f->driver);
	add_reads(f);
	serve_here(f);
	/* The teardown destroys the device; the I/O gate asserts that nothing is left. */
}

static enum block_io_kind uring = BLOCK_IO_URING;
static enum block_io_kind pool = BLOCK_IO_POOL;

#define WITH(name, set, kind)                                                                      \
	{                                                                                          \
#name " (" #kind ")", name, set, teardown, &(kind)                                 \
	}
#define BOTH(name) WITH(name, setup, uring), WITH(name, setup, pool)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(config_describes_the_disk, setup, pool),
		WITH(offers_what_it_can_do, setup, pool),
		BOTH(reads_sectors),
		BOTH(reads_the_last_sector),
		BOTH(writes_sectors),
		BOTH(writes_for_a_driver_that_never_flushes),
		BOTH(flushes),
		WITH(tells_its_id, setup, pool),
		WITH(id_fits_any_buffer, setup, pool),
		BOTH(discards),
		BOTH(writes_zeroes),
		BOTH(refuses_bad_ranges),
		WITH(refuses_ranges_that_were_not_negotiated, setup, pool),
		WITH(refuses_unknown_requests, setup, pool),
		BOTH(refuses_what_lies_off_the_disk),
		BOTH(refuses_odd_lengths),
		WITH(read_only_disk_refuses_changes, setup_read_only, uring),
		WITH(read_only_disk_refuses_changes, setup_read_only, pool),
		BOTH(data_may_be_in_several_segments),
		BOTH(many_segments_by_an_indirect_table),
		WITH(header_may_be_split, setup, pool),
		WITH(header_and_data_may_share_a_segment, setup, pool),
		WITH(status_may_share_the_last_segment, setup, pool),
		WITH(no_room_for_the_status_breaks_the_device, setup, pool),
		WITH(short_header_breaks_the_device_until_a_reset, setup, pool),
		BOTH(shrunken_file_gives_an_error),
		BOTH(serves_many_requests_by_event_index),
		BOTH(closed_gate_holds_requests_back),
		BOTH(gate_closes_while_requests_keep_coming),
		BOTH(reset_waits_for_requests),
		BOTH(reset_works_when_the_loop_does_not_run),
		BOTH(reset_works_on_the_loops_thread),
		BOTH(reset_finds_requests_of_a_thread_that_ended),
		BOTH(destruction_waits_for_requests),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
