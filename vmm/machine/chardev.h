/*
 * The host side of the guest's serial line or console: standard input and output, a file, a pty, a
 * Unix socket (for one program at a time; without one, output is dropped), or nothing.
 *
 * Output is queued (CHARDEV_QUEUE_SIZE bytes) and written by the event loop's thread, so that a
 * vCPU never waits for a reader; when the queue is full the serial port is told so and the guest
 * waits. chardev_flush() at exit loses nothing that a reader still takes.
 */
#ifndef EBB_VMM_MACHINE_CHARDEV_H
#define EBB_VMM_MACHINE_CHARDEV_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/config.h"

#define CHARDEV_QUEUE_SIZE 65536u

struct chardev;

/* What the serial port or console offers to its host side. Both are called on the event loop's thread. */
struct chardev_client {
	void *opaque;
	/* Takes input; returns how many bytes were accepted (the rest is offered again later). */
	size_t (*receive)(void *opaque, const uint8_t *data, size_t length);
	/* There is room in the output queue again. */
	void (*writable)(void *opaque);
};

/*
 * @path is for a file and for a Unix socket; @name is what messages call it: "serial line". One
 * chardev of a process may be SERIAL_STDIO.
 */
int chardev_create(enum serial_kind kind, const char *path, const char *name,
		   struct event_loop *loop, struct chardev **out, struct error *err);

/* Flushes, restores the terminal, closes. NULL is legal. */
void chardev_destroy(struct chardev *chardev);

/* Removes the Unix socket's file, if there is one: for a program that leaves by _exit(). */
void chardev_remove_socket(const struct chardev *chardev);

/* NULL detaches. */
void chardev_set_client(struct chardev *chardev, const struct chardev_client *client);

/* Queues output; returns how many bytes fitted. Any thread, never blocks. */
size_t chardev_write(struct chardev *chardev, const uint8_t *data, size_t length);

/* The client can receive again after it refused bytes. Any thread. */
void chardev_resume_input(struct chardev *chardev);

/*
 * Writes out the queue, waiting for the reader; gives up after 5 s without progress. NULL is legal.
 */
void chardev_flush(struct chardev *chardev);

/* Called when Ctrl-A c was typed on a terminal. Not for other kinds. */
void chardev_set_escape(struct chardev *chardev, void (*escape)(void *opaque), void *opaque);

/* Called when Ctrl-A x was typed on a terminal. Without it, they send SIGTERM to this process. */
void chardev_set_quit(struct chardev *chardev, void (*quit)(void *opaque), void *opaque);

/* The size of the terminal behind it; 0 x 0 if there is none, or it does not say. */
void chardev_terminal_size(const struct chardev *chardev, uint16_t *columns, uint16_t *rows);

/* What a user opens to reach the line: the pty's, file's or socket's path; NULL for the others. */
const char *chardev_path(const struct chardev *chardev);

/*
 * The terminal belongs to somebody else (the console program) until chardev_unmute(): it is put
 * back as it was, input is not read, output is kept in the queue and, if that is full, goes out all
 * the same.
 */
void chardev_mute(struct chardev *chardev);
void chardev_unmute(struct chardev *chardev);

#endif
