/* `ebb ctl`: one command for one VM. */
#ifndef EBB_VMM_CLIENT_CTL_H
#define EBB_VMM_CLIENT_CTL_H

/* Returns the exit status: 0 done, 1 the VM said no or is not there, 2 wrong usage. */
int ctl_main(int argc, char **argv);

#endif
