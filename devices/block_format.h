/*
 * Images that are no raw disks.
 *
 * ebb reads raw disks only, and what format a disk has is never concluded from its content: the
 * guest writes that. A guest that is given a raw disk could otherwise begin it with a qcow2 header
 * that names any file of the host as its backing file, and read that file after the next start. So
 * what the user says decides, and the name is what the user says: disk.qcow2 that does begin as a
 * qcow2 image is refused. Any other file is a raw disk whatever is in it; if it begins as an image
 * does, then a warning tells why its guest may not find anything.
 */
#ifndef EBB_DEVICES_BLOCK_FORMAT_H
#define EBB_DEVICES_BLOCK_FORMAT_H

#include "vmm/base/error.h"

/*
 * Call it before block_open(), unless the user has said that @path is raw. 0, also if the file
 * cannot be read; -EINVAL: it is an image by its name and by its content; @err has the command
 * that converts it.
 */
int block_format_check(const char *path, struct error *err);

#endif
