/* A disk in a file of its own, with asynchronous I/O by one of its two ways: for tests of block_io.h. */
#ifndef EBB_TESTS_UNIT_BLOCK_IO_DISK_H
#define EBB_TESTS_UNIT_BLOCK_IO_DISK_H

#include "devices/block_io.h"

#define BLOCK_IO_DISK_DEPTH 16u

struct block_io_disk {
	char path[64];
	struct block *block;
	struct block_io *io; /* NULL: the host refuses this way, which was said */
};

/* @folder decides on the file system. 0 or -1. */
int block_io_disk_open(struct block_io_disk *disk, const char *folder, off_t size,
		       enum block_io_kind kind);
void block_io_disk_close(struct block_io_disk *disk);

#endif
