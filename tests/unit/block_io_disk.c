#include "block_io_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int block_io_disk_open(struct block_io_disk *disk, const char *folder, off_t size,
		       enum block_io_kind kind)
{
	int fd, result;

	snprintf(disk->path, sizeof(disk->path), "%s/ebb-block-io-XXXXXX", folder);
	fd = mkstemp(disk->path);
	if (fd < 0)
		return -1;
	result = ftruncate(fd, size);
	close(fd);
	if (result || block_open(disk->path, false, NULL, &disk->block, NULL))
		return -1;
	result = block_io_create(disk->block, kind, BLOCK_IO_DISK_DEPTH, &disk->io);
	if (result && kind == BLOCK_IO_URING)
		print_message("SKIP: this host refuses io_uring: %s\n", strerror(-result));
	else if (result)
		return -1;
	return 0;
}

void block_io_disk_close(struct block_io_disk *disk)
{
	block_io_destroy(disk->io);
	block_close(disk->block);
	unlink(disk->path);
}
