/*
 * `ebb top`: the running machines of this user and their memory, live. It puts the folder's parts
 * together: poll.h keeps model.h up to date, draw.h draws it as view.h wants it on canvas.h,
 * screen.h shows that. One thread.
 */
#ifndef EBB_VMM_CLIENT_TOP_TOP_H
#define EBB_VMM_CLIENT_TOP_TOP_H

int top_main(int argc, char **argv);

#endif
