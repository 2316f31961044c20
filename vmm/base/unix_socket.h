/*
 * Listening on and connecting to Unix stream sockets by path, and descriptors sent through them
 * (unix(7)).
 *
 * A listener's file has mode 0600. A socket file that nobody listens on is left from a program that
 * was killed, and is replaced; one that somebody listens on, and anything that is no socket, is
 * refused. No locks; any thread. Descriptors are close-on-exec and non-blocking.
 */
#ifndef EBB_BASE_UNIX_SOCKET_H
#define EBB_BASE_UNIX_SOCKET_H

#include <sys/types.h>

#include "vmm/base/error.h"

/* With the terminating zero (sockaddr_un). */
#define UNIX_SOCKET_PATH_MAX 108

struct unix_listener {
	int fd;
	dev_t device; /* the socket file's identity: another one at the path is not ours to remove */
	ino_t inode;
	char path[UNIX_SOCKET_PATH_MAX];
};

/* 0, or -errno with one line in @err that begins with the path. */
int unix_listener_open(struct unix_listener *listener, const char *path, struct error *err);

/* Closes, and removes the file unless it is another one by now. */
void unix_listener_close(struct unix_listener *listener);

/*
 * Removes the file alone: for a program that leaves without closing anything. 0: it is gone, or is
 * another one by now; -errno.
 */
int unix_listener_remove(const struct unix_listener *listener);

/*
 * Connects without waiting: the descriptor, -EAGAIN (the listener has no room for one more now),
 * -ENOENT, -ECONNREFUSED, other -errno.
 */
int unix_socket_connect(const char *path);

/*
 * send(2) with MSG_NOSIGNAL and @flags. With the first byte goes the descriptor @file, which stays the
 * caller's; negative: none does.
 */
ssize_t unix_socket_send(int fd, const void *bytes, size_t length, int file, int flags);

#endif
