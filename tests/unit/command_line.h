/* `ebb run`'s command line as one string, for tests of what it means. */
#ifndef EBB_TESTS_UNIT_COMMAND_LINE_H
#define EBB_TESTS_UNIT_COMMAND_LINE_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/*
 * options_parse_run() of the words of @line, which are separated by single spaces. They are kept until
 * the next call, for @config points to them.
 */
int command_line_parse(const char *line, struct vm_config *config, struct error *err);

#endif
