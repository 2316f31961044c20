/*
 * The descriptors behind a chardev. They are its own: where standard input and output are terminals
 * or pipes they are opened anew, so that they can be non-blocking without changing what the user's
 * shell holds; where that is not possible, chardev_port_write() looks before it writes.
 */
#ifndef EBB_VMM_MACHINE_CHARDEV_PORT_H
#define EBB_VMM_MACHINE_CHARDEV_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "vmm/base/error.h"
#include "vmm/base/unix_socket.h"
#include "vmm/machine/config.h"

struct chardev_port {
	int in_fd;  /* -1: no input */
	int out_fd; /* -1: output is thrown away */
	bool terminal;
	bool pty;
	bool socket;     /* out_fd is one */
	char path[4096]; /* what a user opens, "" if that means nothing */
	struct unix_listener
		listener; /* .fd -1: none. Else in_fd and out_fd are who is connected */
};

/* @name is what messages call it: "serial line". @path is for a file or a Unix socket. */
int chardev_port_open(enum serial_kind kind, const char *path, const char *name,
		      struct chardev_port *port, struct error *err);
void chardev_port_close(struct chardev_port *port);

/*
 * Somebody may be waiting at the Unix socket: 1 if they are connected now, 0 if not (nobody is
 * there, or somebody else is connected: then they are turned away), -errno.
 */
int chardev_port_accept(struct chardev_port *port);

/* Whoever was connected has gone. */
void chardev_port_disconnect(struct chardev_port *port);

/*
 * Writes some of @data without blocking: how many bytes, -EAGAIN when there is no room, -EIO when
 * nobody has the pty open, other -errno when the other end is gone.
 */
ssize_t chardev_port_write(const struct chardev_port *port, const void *data, size_t length);

/* Reads without blocking: how many bytes, 0 at the end, -EAGAIN, -errno. */
ssize_t chardev_port_read(const struct chardev_port *port, void *data, size_t length);

/* True if somebody has the other end of the pty or of the Unix socket's connection open. */
bool chardev_port_connected(const struct chardev_port *port);

/* Closing a pty takes away what its reader has not read: how many bytes that is now. */
size_t chardev_port_unread(const struct chardev_port *port);

#endif
