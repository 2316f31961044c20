/*
 * The options of `ebb run` that choose how one talks with the guest: serial port, console, vsock.
 * Called by options.c alone, one function an option; each says what is wrong in one line and returns
 * 0 or -EINVAL.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_CONSOLE_H
#define EBB_VMM_OPTIONS_OPTIONS_CONSOLE_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/* What both --serial and --console take. */
#define OPTIONS_LINE_KINDS "stdio|none|pty|file=PATH|unix=PATH"

/* What holds without any option: the serial port on the terminal, no console. */
void options_console_defaults(struct vm_config *config);

int options_parse_serial(struct vm_config *config, char *text, struct error *err);
int options_parse_console(struct vm_config *config, char *text, struct error *err);
int options_parse_vsock(struct vm_config *config, char *text, struct error *err);

/* After the last option: what makes sense only together. */
int options_settle_console(const struct vm_config *config, struct error *err);

#endif
