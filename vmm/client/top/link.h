/*
 * A connection to a machine's control socket that is never waited for: one thread serves hundreds
 * of them with poll(). The caller owns the struct; .fd is -1 while it is closed.
 */
#ifndef EBB_VMM_CLIENT_TOP_LINK_H
#define EBB_VMM_CLIENT_TOP_LINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct top_link {
	int fd;
	char *input;
	size_t length;
	size_t capacity;
};

/*
 * Connects. 0; -ENOENT or -ECONNREFUSED: nobody is there; -EAGAIN: somebody is, and too busy to
 * take it; other -errno.
 */
int top_link_open(struct top_link *link, const char *name);
void top_link_close(struct top_link *link);

/* Sends a request with at most one argument (NULL: none). 0, or -errno: close it. */
int top_link_send(struct top_link *link, const char *command, const char *argument);

/* Reads what is there. 0, -EAGAIN (nothing now), -ECONNRESET (the machine ended), -errno. */
int top_link_read(struct top_link *link);

/*
 * The next line that was read, if one is complete: true with *message (a reference for the caller),
 * which is NULL if the line makes no sense.
 */
bool top_link_next(struct top_link *link, json_t **message);

#endif
