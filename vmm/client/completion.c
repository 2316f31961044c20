#include "vmm/client/completion.h"

#include <string.h>

/* How many characters @a and @b have in common at their beginning. */
static size_t common_prefix(const char *a, const char *b)
{
	size_t length = 0;

	while (a[length] && a[length] == b[length])
		length++;
	return length;
}

bool completion_matches(const char *candidate, const char *line, size_t typed)
{
	/* A NUL can be typed, by Ctrl-V Ctrl-@: strncmp() would be content with what is before it. */
	return strnlen(line, typed) == typed && !strncmp(candidate, line, typed);
}

struct completion completion_find(const char *line, size_t typed,
				  const char *(*candidate)(void *opaque, size_t index),
				  void *opaque)
{
	struct completion found = {0};
	const char *text;

	for (size_t i = 0; (text = candidate(opaque, i)); i++) {
		if (!completion_matches(text, line, typed))
			continue;
		if (!found.matches) {
			found.first = text;
			found.shared = strlen(text);
		} else if (common_prefix(found.first, text) < found.shared) {
			found.shared = common_prefix(found.first, text);
		}
		found.matches++;
	}
	return found;
}
