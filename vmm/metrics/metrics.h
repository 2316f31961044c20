/*
 * `ebb run --metrics`: GET /metrics over HTTP/1.1, answered by the main loop with libmicrohttpd.
 *
 * Whoever connects is hostile: at most METRICS_CONNECTIONS_MAX connections are open, each for
 * METRICS_LIFETIME_NS in all, however lively it is, and for one request of 8 KiB at most. When they
 * are all taken the oldest goes, so that slow clients do not lock others out. Nothing that a client
 * does waits: it costs the main loop's time, never a vCPU's or the fault monitor's.
 *
 * Owns the sockets. The loop's thread only.
 */
#ifndef EBB_VMM_METRICS_METRICS_H
#define EBB_VMM_METRICS_METRICS_H

#include "vmm/base/error.h"
#include "vmm/base/event_loop.h"
#include "vmm/machine/config.h"

#define METRICS_CONNECTIONS_MAX 32
#define METRICS_LIFETIME_NS     10000000000ull

struct machine;
struct metrics;

/*
 * Listens as @config says; NULL in *out if it says METRICS_NONE. @loop, @machine and @name are
 * borrowed. 0, or -errno with what to do in @err.
 */
int metrics_create(struct event_loop *loop, const struct metrics_config *config,
		   struct machine *machine, const char *name, struct metrics **out,
		   struct error *err);

/* NULL is legal. The loop does not run any more, or this is its thread. */
void metrics_destroy(struct metrics *metrics);

/* "http://127.0.0.1:9100/metrics" or "unix:/PATH"; NULL if @metrics is. */
const char *metrics_place(const struct metrics *metrics);

#endif
