/* Driver of virtio-blk (virtio 1.2, section 5.2). Every command function answers its command. */
#ifndef EBB_BARE_BLK_H
#define EBB_BARE_BLK_H

#include <stdbool.h>
#include <stdint.h>

/* Takes a further disk into use. NULL, or why not. */
const char *blk_start(uint64_t base);

/* blk list */
void blk_command_list(void);
/* blk info DISK */
void blk_command_info(uint64_t disk);
/* blk get|put DISK SECTOR COUNT ADDRESS: disk to memory, memory to disk */
void blk_command_transfer(uint64_t disk, bool put, uint64_t sector, uint64_t count,
			  uint64_t address);
/* blk flush DISK */
void blk_command_flush(uint64_t disk);
/*
 * blk discard|zeroes|unmap DISK SECTOR COUNT RANGES: one request of RANGES ranges, each of COUNT
 * sectors and as far from the next; unmap is zeroes that may leave holes.
 */
enum blk_range {
	BLK_DISCARD,
	BLK_ZEROES,
	BLK_UNMAP
};
void blk_command_range(uint64_t disk, enum blk_range kind, uint64_t sector, uint64_t count,
		       uint64_t ranges);
/* blk abuse DISK KIND: breaks the protocol on purpose (address, loop, next, index, short, status)
 * and takes the device into use again */
void blk_command_abuse(uint64_t disk, const char *kind);

#endif
