/*
 * What Tab adds to a line of the console. Pure: no terminal.
 */
#ifndef EBB_VMM_CLIENT_COMPLETION_H
#define EBB_VMM_CLIENT_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>

struct completion {
	size_t matches;    /* candidates that begin as the line does */
	const char *first; /* of them; NULL: none */
	size_t shared;     /* bytes that all of them begin with */
};

/*
 * Compares the @typed bytes at @line with candidate(@opaque, 0), (@opaque, 1)… up to the one that is
 * NULL. They are compared as strings: what follows a NUL in @line matches nothing.
 */
struct completion completion_find(const char *line, size_t typed,
				  const char *(*candidate)(void *opaque, size_t index),
				  void *opaque);

/* Whether @candidate begins with the @typed bytes at @line. */
bool completion_matches(const char *candidate, const char *line, size_t typed);

#endif
