/*
 * `ebb run`'s command line: words of any contents. What is understood is printed as a configuration
 * or is what JSON cannot say.
 */
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
	char *printed;

	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	/* Each ends at a NUL. */
	for (size_t at = 0; at < size && argc <= WORDS_MAX; at += strlen(text + at) + 1)
		argv[argc++] = text + at;
	switch (options_parse_run(argc, argv, &config, &err)) {
	case OPTIONS_PRINT:
		if (!options_print(&config, &printed, &err))
			free(printed);
		options_release(&config);
		break;
	case OPTIONS_OK:
		options_release(&config);
		break;
	default:
		break;
	}
	free(text);
	return 0;
}
