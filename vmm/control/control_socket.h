/*
 * Where control sockets live, and who owns a VM's name.
 *
 * Default directory: $XDG_RUNTIME_DIR/ebb, else /run/ebb for root, else /tmp/ebb-UID; it belongs to
 * the user with mode 0700, or is refused. NAME.sock (mode 0600) is the socket; NAME.lock is locked
 * (flock) as long as the VM lives, so that two processes never both replace a stale socket. Both
 * files are removed by control_socket_release(). Peers are checked on both ends by SO_PEERCRED:
 * only the same user and root are served, and trusted.
 *
 * The machines of the system's service (ebb@.service) have theirs in CONTROL_SYSTEM_DIRECTORY, which
 * nobody but root can have made. Its owner is trusted there by everybody; members of its group are
 * served if it lets them in (mode 0750).
 */
#ifndef EBB_VMM_CONTROL_CONTROL_SOCKET_H
#define EBB_VMM_CONTROL_CONTROL_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#include <stdbool.h>

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

/* As long as an address of a Unix socket can be, with its NUL. */
#define CONTROL_PATH_MAX 108

#define CONTROL_SYSTEM_DIRECTORY "/run/ebb-vms"

struct control_socket;

/*
 * Takes @name (or, if not NULL, the socket @path, whose directory is the caller's business) and
 * listens. -EADDRINUSE if a VM has it; other errors as they come, all with @err. Nothing is
 * accepted before control_server_create().
 */
int control_socket_claim(const char *name, const char *path, struct control_socket **out,
			 struct error *err);

/* Stops listening and removes the files. NULL is legal. */
void control_socket_release(struct control_socket *socket);

/* Non-blocking, listening; the socket keeps it. */
int control_socket_fd(const struct control_socket *socket);
const char *control_socket_path(const struct control_socket *socket);

/* The default directory's path; nothing is created or checked. */
int control_socket_directory(char *directory, size_t size, struct error *err);

/* Whether the directory may be trusted: ours, 0700. -ENOENT if there is none. */
int control_socket_check_directory(const char *directory, struct error *err);

/*
 * The path of @name's socket: in the default directory, or in CONTROL_SYSTEM_DIRECTORY if only there
 * is one.
 */
int control_socket_find(const char *name, char path[CONTROL_PATH_MAX], struct error *err);

/*
 * Connects (blocking, close-on-exec) and checks who listens. 0 with *fd, -ENOENT or -ECONNREFUSED
 * if no VM is there. @name is for the message.
 */
int control_socket_connect(const char *path, const char *name, int *fd, struct error *err);

/* The same without ever waiting, and the socket does not block: -EAGAIN if the VM is slow to accept. */
int control_socket_connect_nowait(const char *path, const char *name, int *fd, struct error *err);

/* Whether the peer of connected @fd is this user or root; its pid in any case if @pid. 0, -EPERM, -errno. */
int control_socket_check_peer(int fd, pid_t *pid);

/* Whether the machine of @socket serves the peer of connected @fd. 0, -EPERM, -errno. */
int control_socket_check_client(const struct control_socket *socket, int fd);

/* The VM's name in a socket file's name, "NAME.sock"; false if it is none of that form. */
bool control_socket_name_of(const char *file, char name[static VM_NAME_MAX + 1]);

#endif
