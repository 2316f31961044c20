/*
 * A disk: a raw file or block device, opened and locked.
 *
 * block_open() takes a lock that other ebbs, and other opens in this process, respect (an open file
 * description lock, fcntl(2)): one writer, or any number of readers. A block device that the host
 * uses itself (mounted, say) is not opened for writing. I/O goes through the host's page cache; a
 * flush makes it durable. The size is what it was when the disk was opened.
 *
 * Immutable after opening: any thread may ask. The descriptor belongs to the block.
 */
#ifndef EBB_DEVICES_BLOCK_H
#define EBB_DEVICES_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/base/error.h"

#define BLOCK_SECTOR_SIZE 512u
#define BLOCK_ID_LENGTH   20u /* virtio 1.2, section 5.2.6: the id string, without its NUL */

struct block;

/*
 * Opens the disk at @path. @id is what the guest reads as the disk's serial number, at most
 * BLOCK_ID_LENGTH bytes of it; NULL or "": the file's name. 0, or -errno with the reason and the
 * remedy in @err: -ENOENT, -EACCES, -EISDIR, -EINVAL (not a disk, empty, or not a multiple of 512
 * bytes), -EBUSY (in use), what open(2) said.
 */
int block_open(const char *path, bool read_only, const char *id, struct block **out,
	       struct error *err);

/* Gives up the lock. No I/O may be under way. NULL is legal. */
void block_close(struct block *block);

int block_fd(const struct block *block);
const char *block_path(const struct block *block);
const char *block_id(const struct block *block); /* BLOCK_ID_LENGTH characters at most */
bool block_is_read_only(const struct block *block);
bool block_is_device(const struct block *block); /* a block device, not a file */
uint64_t block_size(const struct block *block);  /* bytes, a multiple of BLOCK_SECTOR_SIZE */

#endif
