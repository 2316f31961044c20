/*
 * The terminal of `ebb top`, by ncurses. One per process; main thread. While it is open nothing else
 * may write to the terminal.
 */
#ifndef EBB_VMM_CLIENT_TOP_SCREEN_H
#define EBB_VMM_CLIENT_TOP_SCREEN_H

#include "vmm/base/error.h"
#include "vmm/client/top/canvas.h"

/* 0, or -errno with @err: a terminal type that is not known, say. */
int top_screen_open(struct error *err);
void top_screen_close(void);

/* Its size now, at least 1 by 1. */
void top_screen_size(int *rows, int *columns);

void top_screen_show(const struct top_canvas *canvas);

/* The next key that was pressed (a character or an enum top_key); -1: none now. */
int top_screen_key(void);

#endif
