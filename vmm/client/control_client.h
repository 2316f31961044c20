/*
 * The user's end of the control socket. Blocking; one thread.
 */
#ifndef EBB_VMM_CLIENT_CONTROL_CLIENT_H
#define EBB_VMM_CLIENT_CONTROL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/base/error.h"
#include "vmm/control/control_protocol.h"

struct control_client;

/* How a call is watched; all members are optional. */
struct control_watch {
	void *opaque;
	/* One line as it came, with its kind ("progress", "result", "error") and body. */
	void (*line)(void *opaque, const char *text, const char *kind, const json_t *body);
	/*
	 * SIGINT came while the answer was awaited (only if control_client_catch_interrupt()). True:
	 * the call is given up, -EINTR, and the client is of no use any more.
	 */
	bool (*interrupted)(void *opaque);
};

/* @path NULL: the default place for @name. The reasons of control_socket_connect(). */
int control_client_connect(const char *name, const char *path, struct control_client **out,
			   struct error *err);
void control_client_destroy(struct control_client *client);

/* Gives up a call after @milliseconds of silence (-ETIMEDOUT); 0: never, the default. */
void control_client_set_timeout(struct control_client *client, unsigned milliseconds);

/* Sends the descriptor @fd (borrowed) with the next request, for a command that takes a file. */
void control_client_pass_file(struct control_client *client, int fd);

int control_client_fd(const struct control_client *client);

/*
 * Sends a request and waits for its answer. 0 with *code CONTROL_OK and *result (a reference for
 * the caller), or with the VM's refusal: *code and its message in @err. -errno with @err if the
 * conversation itself failed: -ECONNRESET when the VM ended.
 */
int control_client_call(struct control_client *client, const char *command,
			const char *const *arguments, size_t count,
			const struct control_watch *watch, enum control_code *code, json_t **result,
			struct error *err);

/*
 * Sends a request that is answered by events, and tells the watcher each line, until the VM ends: 0
 * with CONTROL_OK. With another *code it was refused; -EINTR: as above.
 */
int control_client_follow(struct control_client *client, const char *command,
			  const char *const *arguments, size_t count,
			  const struct control_watch *watch, enum control_code *code,
			  struct error *err);

/* From now on SIGINT is blocked; one that comes is told by control_watch.interrupted. */
int control_client_catch_interrupt(void);

/* On a connection of its own: "swap cancel". Best effort: its refusal is of no interest. */
void control_client_cancel(const char *name, const char *path);

#endif
