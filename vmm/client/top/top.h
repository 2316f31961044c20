/* `ebb top`: the running machines of this user and their memory, live. */
#ifndef EBB_VMM_CLIENT_TOP_TOP_H
#define EBB_VMM_CLIENT_TOP_TOP_H

int top_main(int argc, char **argv);

#endif
