/*
 * The VM's end of the control socket: clients on the main thread's event loop.
 *
 * Nothing here blocks but the commands themselves. A client has CONTROL_REQUEST_MAX bytes of input.
 * As long as it has not read an answer, no other request of its is looked at and no progress is
 * queued, so its output is bounded too; one that reads nothing for CONTROL_STALL_NS is dropped. One
 * that follows events has at most one line of them queued and may take its time: what it misses
 * meanwhile it is told (vmm/control/events.h). A client that disconnects in the middle of an operation
 * leaves it running. All functions are for the loop's thread.
 */
#ifndef EBB_VMM_CONTROL_CONTROL_SERVER_H
#define EBB_VMM_CONTROL_CONTROL_SERVER_H

#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"

#define CONTROL_CLIENTS_MAX 64u
#define CONTROL_PROGRESS_NS 200000000ull
#define CONTROL_STALL_NS    10000000000ull

struct control_server;
struct control_socket;
struct events;
struct machine;
struct swap_auto;

/* What the commands work on. Borrowed: outlives the server. */
struct control_host {
	struct machine *machine;
	const char *name;
	struct swap_auto *automation; /* NULL: none */
	struct recorder *recorder;    /* NULL: none */
	const char *metrics;          /* where they are served; NULL: nowhere */
	struct events *events;        /* NULL: none, and nobody can follow them */
	/* The command `quit`: end the program soon (the answer is sent at the latest by
	 * control_server_destroy()). */
	void (*quit)(void *opaque);
	void *opaque;
	uint64_t stall_ns; /* 0: CONTROL_STALL_NS */
};

/* Accepts clients on @socket (borrowed). 0 or -errno. */
int control_server_create(struct event_loop *loop, struct control_socket *socket,
			  const struct control_host *host, struct control_server **out,
			  struct error *err);

/* Says goodbye to clients that wait or follow events, and drops them. NULL is legal. */
void control_server_destroy(struct control_server *server);

/* On MACHINE_EVENT_SWAP_DONE: answers whoever started the operation. */
void control_server_swap_done(struct control_server *server);

#endif
