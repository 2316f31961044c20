/*
 * Lines from a terminal, with editing, history and completion (libedit). Ctrl-C drops the line; in
 * the attached console, Ctrl-A c is an end of file. One at a time in a process.
 */
#ifndef EBB_VMM_CLIENT_CONSOLE_LINE_H
#define EBB_VMM_CLIENT_CONSOLE_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"

struct console_line;

enum console_line_result {
	CONSOLE_LINE_READ,
	CONSOLE_LINE_DROPPED, /* by Ctrl-C */
	CONSOLE_LINE_END,     /* end of file, SIGTERM, or the VM ended */
};

struct console_line_options {
	const char *prompt;
	bool attached;
	int vm_fd; /* a connection to the VM: its hang-up ends the reading */
	/* The @index-th word sequence that completion offers; NULL past the last. */
	const char *(*candidate)(void *opaque, size_t index);
	void *opaque;
};

/* @options' strings are borrowed. SIGINT and SIGTERM are blocked from now on. */
int console_line_create(const struct console_line_options *options, struct console_line **out,
			struct error *err);

/* Saves the history; the terminal is as it was. NULL is legal. */
void console_line_destroy(struct console_line *line);

/* *text: without its newline, valid until the next call. */
enum console_line_result console_line_read(struct console_line *line, const char **text);

#endif
