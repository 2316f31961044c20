/*
 * A line's host side (vmm/machine/chardev.h), driven by a test: the test is the guest's device, and
 * runs the event loop on its own thread, for a moment at a time.
 */
#ifndef EBB_TESTS_UNIT_CHARDEV_FIXTURE_H
#define EBB_TESTS_UNIT_CHARDEV_FIXTURE_H

#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/machine/chardev.h"

struct line {
	struct event_loop *loop;
	struct event_source *timer;
	struct chardev *chardev;
	int saved_in; /* the test's own standard input and output */
	int saved_out;
	int far;  /* a terminal's other side, or the writing end of a pipe to standard input */
	int out;  /* the reading end of a pipe from standard output */
	int near; /* the terminal, kept open */
	char received[4096];
	size_t received_length;
	size_t accepts; /* how many bytes the device still takes */
	unsigned writable_calls;
};

/* The line of the running test. */
extern struct line line;

int line_setup(void **state);
int line_teardown(void **state);

/* 0 or -errno with @err, as chardev_create(). */
int line_try(enum serial_kind kind, const char *path, struct error *err);
void line_create(enum serial_kind kind, const char *path);
void line_destroy(void);

void line_run_for(unsigned milliseconds);

/* What chardev_write() takes of it. */
size_t line_write(const char *text);

/* Waits until the device has received @text and nothing else. */
void line_assert_received(const char *text);

/* Standard input and output are a terminal, or pipes, until the test ends or puts them back. */
void line_use_terminal(void);
void line_use_pipes(void);
void line_put_stdio_back(void);

/* Writes @keys to the far side, and lets them arrive. */
void line_type(const char *keys);

/* What comes out of @fd by now. */
const char *line_output_of(int fd);

#endif
