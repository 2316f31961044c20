/*
 * `ebb ctl NAME COMMAND…`: one command for one VM, its answer shown as text or JSON. Blocks until
 * it is answered; Ctrl-C meanwhile cancels a swap operation (vmm/client/control_session.h). One
 * thread; nothing outlives the call.
 */
#ifndef EBB_VMM_CLIENT_CTL_H
#define EBB_VMM_CLIENT_CTL_H

/* The exit status: 0 done, 1 the VM said no or is not there (why, on stderr), 2 wrong usage. */
int ctl_main(int argc, char **argv);

#endif
