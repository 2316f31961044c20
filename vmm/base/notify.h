/*
 * Tells the service manager how far this process is: sd_notify(3)'s protocol, a datagram of lines
 * "KEY=VALUE" to the Unix socket that $NOTIFY_SOCKET names. Without that variable nothing happens.
 * No locks; any thread.
 */
#ifndef EBB_BASE_NOTIFY_H
#define EBB_BASE_NOTIFY_H

/*
 * Opens what notify_send() needs, for a process that must not open anything later. Once, before there
 * are other threads.
 */
void notify_keep_open(void);

/*
 * Sends one message of at most 512 bytes. 0, also if nobody wants to know; -errno: the variable
 * names no socket, or nobody is there. Nothing depends on whether it arrives.
 */
int notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "RELOADING=1" with the time that the protocol asks for; notify_send("READY=1") ends it. */
int notify_reloading(void);

#endif
