/* `ebb ls`: the VMs of this user, from the sockets in the default directory. */
#ifndef EBB_VMM_CLIENT_LS_H
#define EBB_VMM_CLIENT_LS_H

/* Returns the exit status. */
int ls_main(int argc, char **argv);

#endif
