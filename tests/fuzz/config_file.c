/* A configuration file of any contents; what is understood is printed, and read back the same. */
#include "vmm/options/config_file.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

/* What @text says, printed; NULL if it is refused, or cannot be printed. */
static char *read_and_print(const char *text, size_t length)
{
	const struct option_values none = {0};
	struct option_values values = {0};
	struct option_values merged = {0};
	struct error err = {.text = "unset"};
	char *printed = NULL;

	if (config_file_parse("file", text, length, &values, &err)) {
		for (const char *c = err.text; *c; c++)
			if ((unsigned char)*c < ' ' || *c == 0x7f)
				abort();
		return NULL;
	}
	for (size_t i = 0; i < values.count; i++)
		if (!values.items[i].line || !values.items[i].column)
			abort();
	if (option_values_merge(&values, &none, &merged))
		abort();
	if (config_file_format(&merged, &printed, &err))
		printed = NULL;
	option_values_clear(&values);
	option_values_clear(&merged);
	return printed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char *first;
	char *second;

	if (!text)
		abort();
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	first = read_and_print(text, size);
	free(text);
	if (!first)
		return 0;
	second = read_and_print(first, strlen(first));
	if (!second || strcmp(first, second) != 0)
		abort();
	free(first);
	free(second);
	return 0;
}
