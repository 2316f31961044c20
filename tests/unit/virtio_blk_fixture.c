#include "virtio_blk_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/size.h"

enum block_io_kind blk_uring = BLOCK_IO_URING;
enum block_io_kind blk_pool = BLOCK_IO_POOL;

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

static int set_up(void **state, bool read_only)
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

int blk_setup(void **state)
{
	return set_up(state, false);
}

int blk_setup_read_only(void **state)
{
	return set_up(state, true);
}

int blk_teardown(void **state)
{
	struct fixture *f = *state;

	virtio_driver_teardown(&f->driver);
	unlink(f->path);
	free(f);
	return 0;
}

struct fixture *blk_start(void **state, uint64_t features)
{
	struct fixture *f = *state;

	if (!f->device)
		skip();
	virtio_driver_start(&f->driver, features);
	return f;
}

void blk_put_header(struct fixture *f, uint32_t type, uint64_t sector)
{
	const struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	const uint8_t status = NO_STATUS;

	ring_write(f->ring, HEADER, &header, sizeof(header));
	ring_write(f->ring, STATUS, &status, 1);
}

uint8_t blk_take_status(struct fixture *f, gpa_t gpa)
{
	uint16_t head;
	uint8_t status;

	assert_true(virtio_driver_wait_used(&f->driver, 0, &head, &f->written));
	ring_read(f->ring, gpa, &status, 1);
	return status;
}

/* A request of header, data and status; returns the status byte. */
uint8_t blk_request(struct fixture *f, uint32_t type, uint64_t sector, gpa_t data, uint32_t length,
		    bool device_writes)
{
	const struct ring_buffer buffers[] = {
		{HEADER, 16, false},
		{data, length, device_writes},
		{STATUS, 1, true},
	};

	blk_put_header(f, type, sector);
	ring_add(f->ring, buffers, 3);
	virtio_driver_kick(&f->driver, 0);
	return blk_take_status(f, STATUS);
}

uint8_t blk_read(struct fixture *f, uint64_t sector, uint32_t length)
{
	return blk_request(f, VIRTIO_BLK_T_IN, sector, DATA, length, true);
}

uint8_t blk_write(struct fixture *f, uint64_t sector, uint32_t length)
{
	return blk_request(f, VIRTIO_BLK_T_OUT, sector, DATA, length, false);
}

uint32_t blk_word_at(struct fixture *f, gpa_t gpa)
{
	uint32_t word;

	ring_read(f->ring, gpa, &word, sizeof(word));
	return word;
}

void blk_catch_messages(struct fixture *f)
{
	f->messages = tmpfile();
	assert_non_null(f->messages);
	f->stderr_fd = dup(STDERR_FILENO);
	assert_true(dup2(fileno(f->messages), STDERR_FILENO) >= 0);
	log_set_level(LOG_LEVEL_WARNING);
}

long blk_caught_messages(struct fixture *f)
{
	struct stat st;

	log_set_level(LOG_LEVEL_ERROR);
	dup2(f->stderr_fd, STDERR_FILENO);
	close(f->stderr_fd);
	assert_int_equal(fstat(fileno(f->messages), &st), 0);
	fclose(f->messages);
	return st.st_size;
}
