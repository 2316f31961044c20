/*
 * The socket on which metrics are served: made, named and removed here. A caller that gave the
 * descriptor away removes the file alone. No locks; the main thread's.
 */
#ifndef EBB_VMM_METRICS_METRICS_LISTEN_H
#define EBB_VMM_METRICS_METRICS_LISTEN_H

#include "vmm/base/error.h"
#include "vmm/base/unix_socket.h"
#include "vmm/machine/config.h"

#define METRICS_PLACE_MAX 160

/* @place: what to tell the user, "http://127.0.0.1:9100/metrics" or "unix:/run/dev.metrics". */
struct metrics_listener {
	int fd;
	struct unix_listener local; /* its fd is -1: not a Unix socket */
	char place[METRICS_PLACE_MAX];
};

/*
 * Listens, non-blocking. A Unix socket is one as vmm/base/unix_socket.h makes them. 0, or -errno with
 * what to do in @err.
 */
int metrics_listen(const struct metrics_config *config, struct metrics_listener *listener,
		   struct error *err);

/* Removes the file of a Unix socket. The descriptor is the caller's. */
void metrics_listener_remove(const struct metrics_listener *listener);

#endif
