/* The texts of `ebb help`. */
#ifndef EBB_VMM_HELP_H
#define EBB_VMM_HELP_H

#include <stdio.h>

/* Prints the help of subcommand @command; NULL: of ebb itself. -ENOENT if there is none. */
int help_print(FILE *out, const char *command);

/* `ebb help [COMMAND]`. Returns the exit status. */
int help_main(int argc, char **argv);

#endif
