/*
 * `ebb console` as a child on the VM's own terminal, while the serial line is muted.
 *
 * The console is a program of its own with rights that a VM which runs a guest does not have: it
 * reads and writes its history, and a sandboxed VM cannot execute anything. So a *spawner*, a process
 * that does nothing but start consoles, is forked off before the VM is made. It ends with the VM.
 *
 * Main thread only.
 */
#ifndef EBB_VMM_CONTROL_CONSOLE_SPAWN_H
#define EBB_VMM_CONTROL_CONSOLE_SPAWN_H

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/chardev.h"

struct console_spawn;

/* Forks the spawner. There are no other threads yet. */
int console_spawn_create(struct console_spawn **out, struct error *err);

/*
 * Has `ebb console --attached --socket SOCKET_PATH NAME` started on standard input and output, with
 * the serial line muted until it ends. Nothing happens if one is there.
 */
int console_spawn_start(struct console_spawn *spawn, struct event_loop *loop,
			struct chardev *chardev, const char *name, const char *socket_path,
			struct error *err);

/* Ends the console, if there is one, and the spawner. The loop is still there. NULL is legal. */
void console_spawn_destroy(struct console_spawn *spawn);

#endif
