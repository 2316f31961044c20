/* A network backend on a tap interface of the host (the kernel's Documentation/networking/tuntap.rst). */
#ifndef EBB_DEVICES_NET_TAP_H
#define EBB_DEVICES_NET_TAP_H

#include "devices/net_backend.h"
#include "vmm/base/error.h"

/*
 * Attaches to the existing tap interface @name. Offloads and MTU are what the host's kernel and the
 * interface have. 0 or -errno with what to do about it in @err.
 */
int net_tap_create(const char *name, struct net_backend **out, struct error *err);

#endif
