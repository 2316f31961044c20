#include "command_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/options/options.h"

#define WORDS_MAX 48

int command_line_parse(const char *line, struct vm_config *config, struct error *err)
{
	static char words[WORDS_MAX][160];
	char *argv[WORDS_MAX + 1] = {words[0]};
	int argc = 1;

	strcpy(words[0], "run");
	while (*line) {
		size_t length = strcspn(line, " ");

		assert_true(argc < WORDS_MAX && length < sizeof(words[0]));
		memcpy(words[argc], line, length);
		words[argc][length] = '\0';
		argv[argc] = words[argc];
		argc++;
		line += length + (line[length] == ' ');
	}
	memset(err, 0, sizeof(*err));
	return options_parse_run(argc, argv, config, err);
}
