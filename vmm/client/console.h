/*
 * `ebb console NAME`: a VM's commands, one line each, with editing, history and completion where
 * standard input is a terminal; else lines are read as they are, for scripts.
 */
#ifndef EBB_VMM_CLIENT_CONSOLE_H
#define EBB_VMM_CLIENT_CONSOLE_H

/* Returns the exit status: 0, 1 if the VM cannot be reached or (from a script) a command failed. */
int console_main(int argc, char **argv);

#endif
