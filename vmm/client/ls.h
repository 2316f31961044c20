/*
 * `ebb ls`: the VMs of this user, from the sockets in the default directory, with totals. They are
 * all asked at once (vmm/client/fleet.h): one that does not answer is listed so, and holds up no
 * other. One thread; nothing outlives the call.
 */
#ifndef EBB_VMM_CLIENT_LS_H
#define EBB_VMM_CLIENT_LS_H

/* The exit status: 0 done, 1 the sockets cannot be found (why, on stderr), 2 wrong usage. */
int ls_main(int argc, char **argv);

#endif
