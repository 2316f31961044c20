/*
 * `ebb run`'s command line → struct vm_config. Nothing is opened and nothing is created here: only
 * what can be judged from the text and from the host's size is judged.
 */
#ifndef EBB_VMM_OPTIONS_H
#define EBB_VMM_OPTIONS_H

#include "vmm/base/error.h"
#include "vmm/config.h"

enum {
	OPTIONS_OK = 0,
	OPTIONS_HELP = 1, /* --help was given: print it and exit with status 0 */
};

/*
 * @argv[0] is "run". Returns OPTIONS_OK with @config filled in, OPTIONS_HELP, or -EINVAL with one
 * line in @err: wrong usage, exit status 2. Strings of @config point into @argv, whose --disk
 * arguments are cut up in place. Not thread-safe (getopt).
 */
int options_parse_run(int argc, char **argv, struct vm_config *config, struct error *err);

/* 0, or -EINVAL: a VM's name is 1 to VM_NAME_MAX of A-Z a-z 0-9 . _ - and does not start with . */
int options_check_name(const char *name, struct error *err);

#endif
