/*
 * Asks the machines of this user and keeps a model up to date: finds their control sockets, sends
 * `status` and `swap status`, takes the answers as they come. A machine that hangs holds up nothing
 * but itself. One thread; between the calls nothing happens.
 */
#ifndef EBB_VMM_CLIENT_TOP_POLL_H
#define EBB_VMM_CLIENT_TOP_POLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/error.h"
#include "vmm/client/top/model.h"

/* A machine that has not answered for so long is called silent. */
#define TOP_SILENT_NS 2000000000ull

/* So long a machine that ended stays on the screen. */
#define TOP_GONE_NS 5000000000ull

struct top_poll;

/* @model must outlive it. 0, or -ENOMEM. */
int top_poll_create(struct top_model *model, struct top_poll **out);
void top_poll_destroy(struct top_poll *poll);

/*
 * Looks for machines and asks all that owe no answer. 0, or -errno with @err if the sockets' place
 * cannot be read or trusted; there being none means no machines.
 */
int top_poll_ask(struct top_poll *poll, uint64_t now_ns, struct error *err);

/* The machine whose memory-map is asked for too, in @cells cells; NULL: none. */
void top_poll_watch(struct top_poll *poll, const char *name, size_t cells);

/* Tells a machine to do something. How it ends is said by the model's message. */
void top_poll_order(struct top_poll *poll, const char *name, const char *command);

/*
 * Waits until an answer came, @fd (-1: none) is readable, a signal came, or @timeout_ms has passed,
 * and takes what came. True: @fd is readable.
 */
bool top_poll_wait(struct top_poll *poll, int fd, int timeout_ms);

/* True if no machine owes an answer but those that are silent. */
bool top_poll_is_settled(const struct top_poll *poll);

#endif
