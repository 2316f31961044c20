/*
 * SIGHUP: the configuration file is read again, and what can change while the guest runs is changed.
 *
 * That is the policy of automatic swap. Every other option that has another value than at the start
 * is named in a warning and waits for the next start. A file with a mistake changes nothing. Main
 * thread only.
 */
#ifndef EBB_VMM_CONTROL_RELOAD_H
#define EBB_VMM_CONTROL_RELOAD_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

struct swap_auto;

/* @running was read from a file. 0, or -errno with @err. */
int reload(const struct vm_config *running, struct swap_auto *automation, struct error *err);

#endif
