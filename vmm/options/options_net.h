/*
 * `ebb run --net`: a network card, and what it is connected to.
 *
 *   tap=IFNAME[,mac=MAC]                                   a tap interface of the host
 *   user[,mac=MAC][,forward=HOST:GUEST][,forward-udp=…]…   through passt, without privileges
 *
 * Called by options.c alone. Only the text is judged: whether the interface exists or a port is free
 * turns out when it is opened.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_NET_H
#define EBB_VMM_OPTIONS_OPTIONS_NET_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/* Adds one card. Cuts @text up and keeps pointers into it. 0, or -EINVAL with one line in @err. */
int options_parse_net(struct vm_config *config, char *text, struct error *err);

/*
 * After the last option: two cards may share neither an address, nor an interface, nor a port of
 * the host. 0, or -EINVAL with one line in @err.
 */
int options_settle_nets(const struct vm_config *config, struct error *err);

#endif
