/* `ebb run`'s command line: words of any contents. */
#include "vmm/options/options.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

#define WORDS_MAX 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *argv[WORDS_MAX + 2] = {(char *)"run"};
	struct vm_config config;
	struct error err;
	int argc = 1;

	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	/* Each ends at a NUL. */
	for (size_t at = 0; at < size && argc <= WORDS_MAX; at += strlen(text + at) + 1)
		argv[argc++] = text + at;
	if (options_parse_run(argc, argv, &config, &err) != OPTIONS_HELP)
		options_release(&config);
	free(text);
	return 0;
}
