/*
 * The options of `ebb run` that begin with --metrics. Called by options.c alone, one function an
 * option; each says what is wrong in one line and returns 0 or -EINVAL.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_METRICS_H
#define EBB_VMM_OPTIONS_OPTIONS_METRICS_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/*
 * A path with a '/' is a Unix socket; a number is a port on 127.0.0.1; ADDRESS:PORT has a numeric
 * address, in brackets if it is an IPv6 one, or "localhost". 0 or -EINVAL with @err.
 */
int options_parse_metrics(struct vm_config *config, char *text, struct error *err);

/* "on" or "off". */
int options_parse_metrics_public(struct vm_config *config, char *text, struct error *err);

/* After the last option: an address that others can reach needs --metrics-public on. */
int options_settle_metrics(const struct vm_config *config, struct error *err);

#endif
