#include "vmm/options/options_given.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/options/config_file.h"

static int copy(struct option_values *to, const struct option_values *from)
{
	int result = 0;

	for (size_t i = 0; i < from->count && !result; i++)
		result = option_values_add(to, &from->items[i]);
	return result;
}

int options_given_create(const char *path, const struct option_values *line,
			 struct options_given **out, struct error *err)
{
	struct options_given *given = calloc(1, sizeof(*given));
	int result = 0;

	if (!given)
		return error_errno(err, ENOMEM, "options");
	if (path) {
		result = config_file_read(path, &given->parsed, err);
		if (result)
			goto destroy;
		given->path = strdup(path);
		if (!given->path)
			result = -ENOMEM;
	}
	if (!result)
		result = option_values_merge(&given->parsed, line, &given->merged);
	if (!result)
		result = copy(&given->line, line);
	if (!result)
		result = copy(&given->parsed, line);
	if (result) {
		error_errno(err, -result, "options");
		goto destroy;
	}
	*out = given;
	return 0;

destroy:
	options_given_destroy(given);
	return result;
}

void options_given_destroy(struct options_given *given)
{
	if (!given)
		return;
	option_values_clear(&given->parsed);
	option_values_clear(&given->merged);
	option_values_clear(&given->line);
	free(given->path);
	free(given);
}
