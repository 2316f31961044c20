/*
 * `--net user`: a network backend whose other end is a passt process of its own (see
 * vmm/machine/passt.h). The guest gets an address by DHCP and reaches what the host reaches; of
 * the host, it reaches at the gateway's address what listens on the host's loopback.
 */
#ifndef EBB_VMM_MACHINE_NET_USER_H
#define EBB_VMM_MACHINE_NET_USER_H

#include "devices/net_backend.h"
#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/*
 * Starts passt and returns when it serves: some ten milliseconds. Destroying the backend ends passt
 * and reaps it. 0, or -errno with what to do about it in @err.
 *
 * Should passt end before, the backend says so in the log and is gone with -ECONNRESET or -EPIPE.
 */
int net_user_open(const struct net_config *config, struct net_backend **out, struct error *err);

#endif
