/*
 * A small driver of virtio-vsock (virtio 1.2, section 5.10): port 7 echoes, whoever connects; and the
 * guest connects to ports of the host.
 */
#ifndef EBB_BARE_VSOCK_H
#define EBB_BARE_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Brings the device up. NULL, or why not. */
const char *vsock_start(uint64_t base);

/* Answers what comes until @done() says so; at once if there is no device. */
void vsock_poll_until(bool (*done)(void));

/* vsock info */
void vsock_command_info(const uint64_t *arguments);
/* vsock connect PORT BYTES: sends a pattern to the host's PORT, which has to send it back */
void vsock_command_connect(const uint64_t *arguments);
/* vsock flood COUNT: asks COUNT times for a port of the host that nobody listens on */
void vsock_command_flood(const uint64_t *arguments);

#endif
