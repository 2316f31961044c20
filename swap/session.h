/*
 * What exists from `swap enable` to `swap disable`: the userfaultfd, the store, the pager, and the
 * monitor thread that lets the pager answer faults.
 */
#ifndef EBB_SWAP_SESSION_H
#define EBB_SWAP_SESSION_H

#include "memory/guest_memory.h"
#include "swap/monitor.h"
#include "swap/pager.h"
#include "swap/store.h"
#include "swap/uffd.h"
#include "vmm/base/error.h"

struct session {
	struct uffd *uffd;
	struct store *store;
	struct pager *pager;
	struct monitor *monitor;
};

/*
 * Makes a store and begins to serve the faults of @memory: from here on guest RAM is watched, and
 * nothing is staged yet. @memory is borrowed. @dropped: see pager_on_drop(). 0, or -errno with what
 * to do in @err.
 */
int session_create(const struct guest_memory *memory, const struct store_config *config,
		   const struct monitor_callbacks *callbacks, void (*dropped)(void *opaque),
		   struct session **out, struct error *err);

/*
 * Stops watching. What is still in the store is gone: bring it back first, or be sure that nobody
 * touches guest RAM any more. NULL is legal.
 */
void session_destroy(struct session *session);

#endif
