/*
 * What was given for which option of `ebb run`, by the command line or by a file, as text: what
 * there is before it is parsed, printed as a file, and compared when a file is read again.
 *
 * A list owns its texts, all of them copies. No locks; whoever has a list uses it on one thread.
 */
#ifndef EBB_VMM_OPTIONS_OPTION_VALUES_H
#define EBB_VMM_OPTIONS_OPTION_VALUES_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/options/options.h"

struct option_value {
	const struct run_option *option;
	char *text;      /* "" for an option without argument */
	unsigned line;   /* where the value begins in a file, from 1; 0: on the command line */
	unsigned column; /* in bytes, from 1 */
};

struct option_values {
	struct option_value *items; /* in the order in which they were given */
	size_t count;
};

/* Adds a copy. 0, or -ENOMEM. */
int option_values_add(struct option_values *values, const struct option_value *value);

/* Frees the list's contents and leaves it empty. */
void option_values_clear(struct option_values *values);

/* The option of that name; NULL if there is none. */
const struct run_option *option_find(const char *name);

/*
 * The option whose name is most like @name (of length @length); NULL if none is like it. @in_file:
 * only those that a file may have.
 */
const struct run_option *option_nearest(const char *name, size_t length, bool in_file);

/* Whether the option's argument may be a number (N, SIZE, PORT), or is on or off. */
bool option_takes_number(const struct run_option *option);
bool option_takes_switch(const struct run_option *option);

/*
 * What counts of @file and of the command line's @line, into the empty list @merged: an option that
 * may be repeated has the file's values and then the command line's; of any other the last one
 * counts, the command line's before the file's. 0, or -ENOMEM with @merged empty.
 */
int option_values_merge(const struct option_values *file, const struct option_values *line,
			struct option_values *merged);

/* Whether @option has the same values in both. */
bool option_values_same(const struct option_values *a, const struct option_values *b,
			const struct run_option *option);

#endif
