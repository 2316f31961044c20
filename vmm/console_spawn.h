/*
 * Ctrl-A c on the VM's own terminal: the console runs there as a child process
 * (`ebb console --attached`), while the serial line is muted and the VM goes on.
 */
#ifndef EBB_VMM_CONSOLE_SPAWN_H
#define EBB_VMM_CONSOLE_SPAWN_H

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"
#include "vmm/chardev.h"

struct console_spawn;

/*
 * Mutes @chardev (which gives the terminal back) and starts the console of @name on the terminal;
 * @socket_path is its control socket. When it ends, the loop's thread unmutes @chardev, then calls
 * @done(@opaque), which may destroy the spawn or start another. On failure nothing is muted.
 */
int console_spawn_start(struct event_loop *loop, struct chardev *chardev, const char *name,
			const char *socket_path, void (*done)(void *opaque), void *opaque,
			struct console_spawn **out, struct error *err);

/* Ends the console, if it still runs, and unmutes. @done is not called. NULL is legal. */
void console_spawn_destroy(struct console_spawn *spawn);

#endif
