/*
 * Runs a fuzz target over files, for compilers without libFuzzer and as a regression test:
 *
 *     fuzz_NAME FILE|DIRECTORY…
 *
 * Each file of a directory is one input. The last input's name is printed before it runs only if it
 * kills the program: by the core's backtrace, or with EBB_FUZZ_VERBOSE=1.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/fuzz/input.h"

#define INPUT_MAX (1u << 20)

static unsigned run_file(const char *path)
{
	static uint8_t data[INPUT_MAX];
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!file) {
		perror(path);
		exit(1);
	}
	if (getenv("EBB_FUZZ_VERBOSE"))
		fprintf(stderr, "%s\n", path);
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	return 1;
}

static unsigned run_path(const char *path)
{
	struct dirent *entry;
	struct stat status;
	unsigned count = 0;
	DIR *directory;

	if (stat(path, &status) || !S_ISDIR(status.st_mode))
		return run_file(path);
	directory = opendir(path);
	while (directory && (entry = readdir(directory))) {
		char name[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		count += run_file(name);
	}
	if (directory)
		closedir(directory);
	return count;
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	for (int i = 1; i < argc; i++)
		count += run_path(argv[i]);
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	printf("%u inputs\n", count + 1);
	return count || argc == 1 ? 0 : 1;
}
