/*
 * `ebb run`'s command line → struct vm_config. Nothing is opened and nothing is created here: only
 * what can be judged from the text and from the host's size is judged.
 */
#ifndef EBB_VMM_OPTIONS_H
#define EBB_VMM_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/config.h"

/* One option of `ebb run`: the command line, help and whoever else knows them read this table. */
struct run_option {
	const char *name;     /* "memory", of --memory */
	const char *argument; /* "SIZE" */
	const char *help;     /* one line */
	bool repeats;         /* it may be given several times, each adds something */
	/* 0, or -EINVAL with one line in @err. Keeps pointers into @text, and may cut it up. */
	int (*parse)(struct vm_config *config, char *text, struct error *err);
};

extern const struct run_option run_options[];
extern const size_t run_option_count;

enum {
	OPTIONS_OK = 0,
	OPTIONS_HELP = 1, /* --help was given: print it and exit with status 0 */
};

/*
 * @argv[0] is "run". Returns OPTIONS_OK with @config filled in, OPTIONS_HELP, or -EINVAL with one
 * line in @err: wrong usage, exit status 2. Strings of @config point into @argv, whose
 * arguments may be cut up in place. Not thread-safe (getopt).
 */
int options_parse_run(int argc, char **argv, struct vm_config *config, struct error *err);

/* 0, or -EINVAL: a VM's name is 1 to VM_NAME_MAX of A-Z a-z 0-9 . _ - and does not start with . */
int options_check_name(const char *name, struct error *err);

/*
 * For the options themselves: cuts the field off that @text begins with, at the first single comma;
 * ",," becomes one comma, in place. Returns what follows, or NULL at the end.
 */
char *options_cut_field(char *text);

#endif
