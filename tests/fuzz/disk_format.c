/* A disk of any contents and name: an image by both is refused, anything else is a raw disk. */
#include "devices/block_format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/block.h"
#include "tests/fuzz/input.h"
#include "vmm/base/log.h"

static const char *const names[] = {"disk",      "disk.qcow2", "disk.vmdk", "disk.vdi",
				    "disk.vhdx", "disk.vhd",   "disk.qed",  "disk.raw"};

static char directory[64];

static void clean_up(void)
{
	rmdir(directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	char path[96];
	struct block *block;
	struct error err;
	FILE *file;
	int result;

	if (!*directory) {
		log_set_level(LOG_LEVEL_ERROR);
		snprintf(directory, sizeof(directory), "/tmp/ebb-fuzz-disk-%d", (int)getpid());
		if (mkdir(directory, 0700))
			abort();
		atexit(clean_up);
	}
	snprintf(path, sizeof(path), "%s/%s", directory, names[fuzz_u8(&input) & 7]);
	file = fopen(path, "w");
	if (!file)
		abort();
	fwrite(input.data, 1, input.left, file);
	fclose(file);
	if (truncate(path, 512l * (1 + fuzz_u8(&input) % 3)))
		abort();
	result = block_format_check(path, &err);
	if (result && result != -EINVAL)
		abort();
	if (!block_open(path, true, NULL, &block, &err)) {
		if (block_size(block) % BLOCK_SECTOR_SIZE)
			abort();
		block_close(block);
	}
	unlink(path);
	return 0;
}
