/*
 * passt(1), a user-mode network stack, as a child process: it translates between Ethernet frames on
 * a socket and sockets of its own, which is why neither it nor ebb needs a privilege.
 *
 * It runs in a session of its own with no descriptor of ebb's but its end of the socket, and exits
 * when the other end is closed, however ebb may have ended. (A signal at the parent's death would not
 * outlast its change of user.) What it says goes into a pipe that is read once it has exited.
 *
 * One owner; any thread may use it, one at a time.
 */
#ifndef EBB_VMM_MACHINE_PASST_H
#define EBB_VMM_MACHINE_PASST_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

#define PASST_PACKAGE "passt"

/* The largest MTU that passt can do; a large one is what makes it fast. */
#define PASST_MTU 65520

struct passt;

/* Stores the path of the program, as $PATH has it. 0, or -ENOENT. */
int passt_find(char *path, size_t size);

/*
 * Starts passt for @config's forwards on @socket, of which the child gets a copy. 0, or -errno with
 * what to do in @err. That it runs does not mean that it has found its way: see passt_await().
 */
int passt_start(const struct net_config *config, int socket, struct passt **out, struct error *err);

/*
 * Waits until passt has read all that was written into @socket (ebb's end), which it does once all
 * its ports are open. 0, or -errno with passt's own reason, and the remedy, in @err.
 */
int passt_await(struct passt *passt, int socket, struct error *err);

/* Waits up to @patience_ms for its exit. True, and how it ended in @text, once it has exited. */
bool passt_obituary(struct passt *passt, int patience_ms, char *text, size_t size);

/* Its socket's other end has been closed: waits for its exit, and helps if need be. NULL is legal. */
void passt_end(struct passt *passt);

#endif
