/*
 * bench_contents --size SIZE [--mix …] [--contents FILE] [--output FILE]: writes the benchmark's
 * memory contents to a file, and says how well they compress.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/guest_memory.h"
#include "tests/bench/measure.h"

static void write_file(const struct contents *contents, const char *path, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)size))
		die("%s: %s", path, strerror(errno));
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		die("%s: mmap: %s", path, strerror(errno));
	contents_fill(contents, map, size / GUEST_PAGE_SIZE);
	munmap(map, size);
	close(fd);
}

int main(int argc, char **argv)
{
	struct bench_options options;
	struct contents_ratio ratio;
	struct contents *contents;
	struct error err;

	options_parse(argc, argv, &options);
	if (contents_create(&options.contents, &contents, &err))
		die("%s", err.text);
	if (contents_measure(contents, options.size / GUEST_PAGE_SIZE, &ratio))
		die("no memory");
	if (options.output)
		write_file(contents, options.output, options.size);
	contents_destroy(contents);
	print_json(json_pack("{s:f,s:f,s:f}", "zero", ratio.zero, "lz4", ratio.lz4, "zstd",
			     ratio.zstd));
	return 0;
}
