/*
 * `ebb run`'s command line and configuration file → struct vm_config. But for that file nothing is
 * opened, and nothing is created: only what can be judged from the text and from the host's size is
 * judged.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_H
#define EBB_VMM_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/* One option of `ebb run`: the command line, help and whoever else knows them read this table. */
struct run_option {
	const char *name;     /* "memory", of --memory */
	const char *argument; /* "SIZE"; NULL: it has none */
	const char *help;     /* one line */
	bool repeats;         /* it may be given several times, each adds something */
	/* 0, or -EINVAL with one line in @err. Keeps pointers into @text, and may cut it up. */
	int (*parse)(struct vm_config *config, char *text, struct error *err);
};

extern const struct run_option run_options[];
extern const size_t run_option_count;

/* Whether a file may have the option; the others belong on the command line alone. */
bool options_in_file(const struct run_option *option);

enum {
	OPTIONS_OK = 0,
	OPTIONS_HELP = 1,  /* --help was given: print it and exit with status 0 */
	OPTIONS_PRINT = 2, /* --print-config: options_print() and exit with status 0 */
};

/*
 * @argv[0] is "run". Returns OPTIONS_OK or OPTIONS_PRINT with @config filled in, to be given to
 * options_release(), OPTIONS_HELP, or -errno with one line in @err: wrong usage, exit status 2.
 * Without --config and --print-config there is nothing to release. Strings of @config point into
 * @argv, whose arguments may be cut up in place, or belong to config->given.
 *
 * Options on the command line win over the file's; those that may be repeated add to the file's. A
 * value of the file that does not count is judged nevertheless. Not thread-safe (getopt).
 */
int options_parse_run(int argc, char **argv, struct vm_config *config, struct error *err);

/*
 * Reads the file of @running, which has one, anew, with the command line of then, into @fresh, to be
 * given to options_release(). 0, or -errno with @err.
 */
int options_reread(const struct vm_config *running, struct vm_config *fresh, struct error *err);

/* The text that --print-config prints, to be freed. 0, or -errno with @err. */
int options_print(const struct vm_config *config, char **text, struct error *err);

/* Frees what options_parse_run() has made; @config's strings are gone then. */
void options_release(struct vm_config *config);

/* 0, or -EINVAL: a VM's name is 1 to VM_NAME_MAX of A-Z a-z 0-9 . _ - and does not start with . */
int options_check_name(const char *name, struct error *err);

/*
 * For the options themselves: cuts the field off that @text begins with, at the first single comma;
 * ",," becomes one comma, in place. Returns what follows, or NULL at the end.
 */
char *options_cut_field(char *text);

#endif
