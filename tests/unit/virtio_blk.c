/* virtio-blk over a real ring and a real file: each kind of request, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/stat.h>
#include <unistd.h>

#include "virtio_blk_fixture.h"
#include "vmm/base/log.h"

static uint8_t range_request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t sectors,
			     uint32_t flags)
{
	const struct virtio_blk_discard_write_zeroes range = {
		.sector = sector,
		.num_sectors = sectors,
		.flags = flags,
	};

	ring_write(f->ring, RANGE, &range, sizeof(range));
	return blk_request(f, type, 0, RANGE, sizeof(range), false);
}

/* One request of @count ranges, each of 64 sectors and as far from the next, from sector 128 on. */
static uint8_t many_ranges(struct fixture *f, uint32_t type, uint32_t flags, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct virtio_blk_discard_write_zeroes range = {
			.sector = 128 + 128 * i,
			.num_sectors = 64,
			.flags = flags,
		};

		ring_write(f->ring, RANGE + i * sizeof(range), &range, sizeof(range));
	}
	return blk_request(f, type, 0, RANGE, count * 16, false);
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
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(virtio_driver_read_config(&f->driver, 0, 8), DISK_SIZE / 512);
	assert_int_equal(virtio_driver_read_config(&f->driver, 12, 4), 254);
	assert_int_equal(virtio_driver_read_config(&f->driver, 20, 4), 512);
	assert_int_equal(virtio_driver_read_config(&f->driver, 36, 4), 1u << 17);
	assert_int_equal(virtio_driver_read_config(&f->driver, 40, 4), 32);
	assert_int_equal(virtio_driver_read_config(&f->driver, 0xf0, 4), 0);
}

static void offers_what_it_can_do(void **state)
{
	struct fixture *f = blk_start(state, 0);
	uint64_t features = virtio_driver_offered_features(&f->driver);

	assert_int_equal(features & ALL_FEATURES, ALL_FEATURES);
	assert_true(features & VIRTIO_FEATURE(VIRTIO_BLK_F_SEG_MAX));
	assert_true(features & VIRTIO_FEATURE(VIRTIO_BLK_F_BLK_SIZE));
	assert_false(features & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
}

static void reads_sectors(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_read(f, 7, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1025);
	assert_int_equal(blk_word_at(f, DATA), 7);
	assert_int_equal(blk_word_at(f, DATA + 512), 8);
	assert_int_equal(blk_word_at(f, DATA + 1024), 0);
}

static void reads_the_last_sector(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_read(f, DISK_SIZE / 512 - 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_word_at(f, DATA), DISK_SIZE / 512 - 1);
}

static void writes_sectors(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(guest_memory_fill(f->driver.memory, DATA, 0xab, 1024), 0);
	assert_int_equal(blk_write(f, 3, 1024), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	assert_int_equal(disk_word(f, 2 * 512), 2);
	assert_int_equal(disk_word(f, 3 * 512), 0xabababab);
	assert_int_equal(disk_word(f, 5 * 512 - 4), 0xabababab);
	assert_int_equal(disk_word(f, 5 * 512), 5);
}

static void writes_for_a_driver_that_never_flushes(void **state)
{
	struct fixture *f = blk_start(state, 0);

	assert_int_equal(guest_memory_fill(f->driver.memory, DATA, 0xab, 512), 0);
	assert_int_equal(blk_write(f, 3, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_word(f, 3 * 512), 0xabababab);
}

static void flushes(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {STATUS, 1, true}};

	blk_put_header(f, VIRTIO_BLK_T_FLUSH, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
}

static void tells_its_id(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	char id[20] = {0};

	assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 20, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 21);
	ring_read(f->ring, DATA, id, sizeof(id));
	assert_memory_equal(id, "test-disk\0\0\0\0\0\0\0\0\0\0\0", 20);
}

static void id_fits_any_buffer(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 4, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 5);
	assert_int_equal(blk_request(f, VIRTIO_BLK_T_GET_ID, 0, DATA, 64, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 20);
}

static void discards(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	blkcnt_t before = disk_blocks(f);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 128, 256, 0), VIRTIO_BLK_S_OK);
	assert_true(disk_blocks(f) <= before - 256);
	assert_int_equal(disk_word(f, 127 * 512), 127);
	assert_int_equal(disk_word(f, 384 * 512), 384);
}

static void writes_zeroes(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

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

static void zeroes_that_may_unmap_free_the_space(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	blkcnt_t before = disk_blocks(f);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 128, 256, 1), VIRTIO_BLK_S_OK);
	assert_true(disk_blocks(f) <= before - 256);
}

static void zeroes_that_may_not_unmap_keep_the_space(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	blkcnt_t before = disk_blocks(f);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 128, 256, 0), VIRTIO_BLK_S_OK);
	assert_true(disk_blocks(f) >= before);
}

static void a_request_may_have_many_ranges(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	blkcnt_t before = disk_blocks(f);

	assert_int_equal(many_ranges(f, VIRTIO_BLK_T_DISCARD, 0, 4), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1);
	/* The file system may need a block more to describe the holes. */
	assert_true(disk_blocks(f) <= before - 3 * 64);
	assert_int_equal(many_ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 1, 15), VIRTIO_BLK_S_OK);
	for (unsigned i = 0; i < 15; i++) {
		uint32_t sector = 128 + 128 * i;

		assert_int_equal(disk_word(f, (off_t)(sector - 1) * 512), sector - 1);
		assert_int_equal(disk_word(f, (off_t)sector * 512), 0);
		assert_int_equal(disk_word(f, (off_t)(sector + 64) * 512 - 4), 0);
		assert_int_equal(disk_word(f, (off_t)(sector + 64) * 512), sector + 64);
	}
}

static void one_bad_range_among_many_spoils_them_all(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	/* The sixteenth begins at the end of the disk; 33 are more than the device takes. */
	assert_int_equal(many_ranges(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16), VIRTIO_BLK_S_IOERR);
	assert_int_equal(many_ranges(f, VIRTIO_BLK_T_DISCARD, 0, 33), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_word(f, 128 * 512), 128);
}

static void a_range_without_sectors_does_nothing(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 2048, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 0, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_word(f, 512), 1);
}

static void refuses_bad_ranges(void **state)
{
	static const uint32_t types[] = {VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
	struct fixture *f = blk_start(state, ALL_FEATURES);

	for (unsigned i = 0; i < 2; i++) {
		uint32_t type = types[i];

		assert_int_equal(range_request(f, type, 2047, 2, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, UINT64_MAX, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 1ull << 55, 1, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
		assert_int_equal(range_request(f, type, 0, 1, 0x80), VIRTIO_BLK_S_UNSUPP);
		assert_int_equal(blk_request(f, type, 0, RANGE, 15, false), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request(f, type, 0, RANGE, 17, false), VIRTIO_BLK_S_IOERR);
		assert_int_equal(blk_request(f, type, 0, RANGE, 0, false), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(disk_word(f, 512), 1);
}

static void refuses_ranges_that_were_not_negotiated(void **state)
{
	struct fixture *f = blk_start(state, 0);

	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(range_request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
}

static void refuses_unknown_requests(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_request(f, 99, 0, DATA, 512, true), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->written, 0);
	assert_int_equal(blk_request(f, UINT32_MAX, 0, DATA, 512, false), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(f->written, 1);
}

static void refuses_what_lies_off_the_disk(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	static const uint64_t sectors[] = {
		DISK_SIZE / 512,  DISK_SIZE / 512 - 1, /* two sectors do not fit */
		1ull << 55,                            /* 2^64 bytes */
		(1ull << 55) + 1, UINT64_MAX,          UINT64_MAX / 512,
	};

	for (unsigned i = 0; i < sizeof(sectors) / sizeof(sectors[0]); i++) {
		assert_int_equal(blk_read(f, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
		assert_int_equal(f->written, 0);
		assert_int_equal(blk_write(f, sectors[i], 1024), VIRTIO_BLK_S_IOERR);
	}
	assert_int_equal(disk_word(f, 512), 1);
}

static void refuses_odd_lengths(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(blk_read(f, 0, 100), VIRTIO_BLK_S_IOERR);
	assert_int_equal(blk_write(f, 0, 513), VIRTIO_BLK_S_IOERR);
	assert_int_equal(disk_word(f, 512), 1);
}

static void read_only_disk_refuses_changes(void **state)
{
	struct fixture *f = blk_start(state, 0);

	assert_true(virtio_driver_offered_features(&f->driver) & VIRTIO_FEATURE(VIRTIO_BLK_F_RO));
	assert_int_equal(blk_write(f, 1, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(range_request(f, VIRTIO_BLK_T_DISCARD, 0, 8, 0), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(blk_read(f, 1, 512), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_word_at(f, DATA), 1);
}

static void data_may_be_in_several_segments(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},      {DATA, 100, true},          {DATA + 0x1000, 412, true},
		{DATA + 0x2001, 1, true}, {DATA + 0x3000, 511, true}, {STATUS, 1, true},
	};

	blk_put_header(f, VIRTIO_BLK_T_IN, 9);
	ring_add(f->ring, buffers, 6);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 1025);
	assert_int_equal(blk_word_at(f, DATA + 96), 9);
	assert_int_equal(blk_word_at(f, DATA + 0x1000), 9);
	assert_int_equal(blk_word_at(f, DATA + 0x3003), 10);
}

static void many_segments_by_an_indirect_table(void **state)
{
	struct fixture *f =
		blk_start(state, ALL_FEATURES | VIRTIO_FEATURE(VIRTIO_RING_F_INDIRECT_DESC));
	struct ring_buffer buffers[256];

	buffers[0] = (struct ring_buffer){HEADER, 16, false};
	for (unsigned i = 1; i < 255; i++)
		buffers[i] = (struct ring_buffer){DATA + i * 1024, 512, true};
	buffers[255] = (struct ring_buffer){STATUS, 1, true};
	blk_put_header(f, VIRTIO_BLK_T_IN, 1000);
	ring_publish(f->ring, ring_chain_indirect(f->ring, TABLE, buffers, 256));
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 254 * 512 + 1);
	for (unsigned i = 1; i < 255; i++)
		assert_int_equal(blk_word_at(f, DATA + i * 1024), 999 + i);
}

static void header_may_be_split(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {
		{HEADER, 1, false},      {HEADER + 1, 7, false}, {HEADER + 8, 5, false},
		{HEADER + 13, 3, false}, {DATA, 512, true},      {STATUS, 1, true},
	};

	blk_put_header(f, VIRTIO_BLK_T_IN, 11);
	ring_add(f->ring, buffers, 6);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, STATUS), VIRTIO_BLK_S_OK);
	assert_int_equal(blk_word_at(f, DATA), 11);
}

static void header_and_data_may_share_a_segment(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16 + 512, false}, {DATA, 1, true}};

	blk_put_header(f, VIRTIO_BLK_T_OUT, 4);
	assert_int_equal(guest_memory_fill(f->driver.memory, HEADER + 16, 0xcd, 512), 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, DATA), VIRTIO_BLK_S_OK);
	assert_int_equal(disk_word(f, 4 * 512), 0xcdcdcdcd);
}

static void status_may_share_the_last_segment(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {DATA, 513, true}};

	blk_put_header(f, VIRTIO_BLK_T_IN, 12);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_int_equal(blk_take_status(f, DATA + 512), VIRTIO_BLK_S_OK);
	assert_int_equal(f->written, 513);
	assert_int_equal(blk_word_at(f, DATA), 12);
}

static void no_room_for_the_status_breaks_the_device(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 16, false}, {DATA, 512, false}};

	blk_put_header(f, VIRTIO_BLK_T_OUT, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_broken(f);
	assert_int_equal(disk_word(f, 512), 1);
}

static void short_header_breaks_the_device_until_a_reset(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);
	const struct ring_buffer buffers[] = {{HEADER, 15, false}, {STATUS, 1, true}};

	blk_put_header(f, VIRTIO_BLK_T_FLUSH, 0);
	ring_add(f->ring, buffers, 2);
	virtio_driver_kick(&f->driver, 0);
	assert_broken(f);

	blk_start(state, ALL_FEATURES);
	assert_int_equal(blk_read(f, 2, 512), VIRTIO_BLK_S_OK);
}

static void shrunken_file_gives_an_error(void **state)
{
	struct fixture *f = blk_start(state, ALL_FEATURES);

	assert_int_equal(truncate(f->path, 4096), 0);
	assert_int_equal(blk_read(f, 100, 512), VIRTIO_BLK_S_IOERR);
	assert_int_equal(f->written, 0);
	assert_int_equal(blk_read(f, 7, 512), VIRTIO_BLK_S_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BLK_POOL(config_describes_the_disk),
		BLK_POOL(offers_what_it_can_do),
		BLK_BOTH(reads_sectors),
		BLK_BOTH(reads_the_last_sector),
		BLK_BOTH(writes_sectors),
		BLK_BOTH(writes_for_a_driver_that_never_flushes),
		BLK_BOTH(flushes),
		BLK_POOL(tells_its_id),
		BLK_POOL(id_fits_any_buffer),
		BLK_BOTH(discards),
		BLK_BOTH(writes_zeroes),
		BLK_BOTH(zeroes_that_may_unmap_free_the_space),
		BLK_BOTH(zeroes_that_may_not_unmap_keep_the_space),
		BLK_BOTH(a_request_may_have_many_ranges),
		BLK_BOTH(one_bad_range_among_many_spoils_them_all),
		BLK_BOTH(a_range_without_sectors_does_nothing),
		BLK_BOTH(refuses_bad_ranges),
		BLK_POOL(refuses_ranges_that_were_not_negotiated),
		BLK_POOL(refuses_unknown_requests),
		BLK_BOTH(refuses_what_lies_off_the_disk),
		BLK_BOTH(refuses_odd_lengths),
		BLK_TEST(read_only_disk_refuses_changes, blk_setup_read_only, uring),
		BLK_TEST(read_only_disk_refuses_changes, blk_setup_read_only, pool),
		BLK_BOTH(data_may_be_in_several_segments),
		BLK_BOTH(many_segments_by_an_indirect_table),
		BLK_POOL(header_may_be_split),
		BLK_POOL(header_and_data_may_share_a_segment),
		BLK_POOL(status_may_share_the_last_segment),
		BLK_POOL(no_room_for_the_status_breaks_the_device),
		BLK_POOL(short_header_breaks_the_device_until_a_reset),
		BLK_BOTH(shrunken_file_gives_an_error),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
