/*
 * `ebb help --json`: what ebb understands, from the tables it works by. Man pages and completions
 * are made of it, so that they cannot say anything else.
 *
 *   version        of ebb
 *   summary        `ebb help`
 *   subcommands    [{name, help (the text of `ebb help NAME`)}]
 *   run_options    [{name, argument (null: it has none), help, repeats, in_file}], in order
 *   commands       [{name, arguments, help, choices (words, for completion), takes_file}]: those of
 *                  `ebb ctl` and the console
 */
#ifndef EBB_VMM_HELP_JSON_H
#define EBB_VMM_HELP_JSON_H

#include <stdio.h>

/* 0, or -ENOMEM. */
int help_json_print(FILE *out);

#endif
