/*
 * The texts of `ebb help`: of ebb and of each subcommand. Man pages are made of the same ones
 * (vmm/help_json.h). Constant strings: no locks, any thread, nothing to free.
 */
#ifndef EBB_VMM_OPTIONS_HELP_H
#define EBB_VMM_OPTIONS_HELP_H

#include <stddef.h>
#include <stdio.h>

/* Prints the help of subcommand @command; NULL: of ebb itself. -ENOENT if there is none. */
int help_print(FILE *out, const char *command);

/* The text of `ebb help`. */
const char *help_summary(void);

/* The name of subcommand @i with its text; NULL behind the last. */
const char *help_topic(size_t i, const char **text);

#endif
