#include "vmm/control/control_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/base/removal.h"
#include "vmm/base/unix_socket.h"
#include "vmm/options/options.h"
#include "vmm/sandbox/sandbox.h"

#define LOCK_PATH_MAX (CONTROL_PATH_MAX + 8)

/* Who has no number in a user namespace (/proc/sys/kernel/overflowuid, user_namespaces(7)). */
#define OVERFLOW_USER 65534

struct control_socket {
	struct unix_listener listener;
	int lock_fd;
	bool shared; /* with @group, whose members it serves */
	gid_t group;
	char path[CONTROL_PATH_MAX];
	char lock_path[LOCK_PATH_MAX];
};

int control_socket_directory(char *directory, size_t size, struct error *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	int length;

	if (runtime && runtime[0] == '/')
		length = snprintf(directory, size, "%s/ebb", runtime);
	else if (geteuid() == 0)
		length = snprintf(directory, size, "/run/ebb");
	else
		length = snprintf(directory, size, "/tmp/ebb-%u", (unsigned)geteuid());
	if (length < 0 || (size_t)length >= size)
		return error_say(err, ENAMETOOLONG,
				 "$XDG_RUNTIME_DIR (%.80s…) is too long for a socket; set a "
				 "shorter one",
				 runtime);
	return 0;
}

int control_socket_check_directory(const char *directory, struct error *err)
{
	struct stat info;

	if (lstat(directory, &info))
		return error_errno(err, errno, "%s: control sockets are kept here", directory);
	if (!S_ISDIR(info.st_mode))
		return error_say(err, ENOTDIR,
				 "%s: not a directory, so control sockets cannot be kept there; "
				 "remove it or set XDG_RUNTIME_DIR",
				 directory);
	if (info.st_uid != geteuid())
		return error_say(err, EPERM,
				 "%s: belongs to user %u, so it is not safe for control sockets; "
				 "remove it or set XDG_RUNTIME_DIR",
				 directory, (unsigned)info.st_uid);
	if (info.st_mode & 077)
		return error_say(err, EPERM,
				 "%s: others have access (mode %o), so it is not safe for control "
				 "sockets; run: chmod 700 %s",
				 directory, info.st_mode & 07777, directory);
	return 0;
}

static int make_path(const char *directory, const char *name, char path[CONTROL_PATH_MAX],
		     struct error *err)
{
	int length = snprintf(path, CONTROL_PATH_MAX, "%s/%s.sock", directory, name);

	if (length < 0 || length >= CONTROL_PATH_MAX)
		return error_say(err, ENAMETOOLONG,
				 "%s/%s.sock: too long for a socket (%d bytes at most); use a "
				 "shorter name or --control",
				 directory, name, CONTROL_PATH_MAX - 1);
	return 0;
}

int control_socket_find(const char *name, char path[CONTROL_PATH_MAX], struct error *err)
{
	char directory[CONTROL_PATH_MAX];
	int result = control_socket_directory(directory, sizeof(directory), err);
	char system_path[CONTROL_PATH_MAX];

	if (!result)
		result = make_path(directory, name, path, err);
	if (!result && access(path, F_OK) &&
	    !make_path(CONTROL_SYSTEM_DIRECTORY, name, system_path, NULL) &&
	    !access(system_path, F_OK))
		memcpy(path, system_path, sizeof(system_path));
	return result;
}

/* 0 with *info if @path lies in the system's directory and that is there, else -errno. */
static int stat_system_directory(const char *path, struct stat *info)
{
	const char *slash = strrchr(path, '/');

	if (!slash || (size_t)(slash - path) != strlen(CONTROL_SYSTEM_DIRECTORY) ||
	    strncmp(path, CONTROL_SYSTEM_DIRECTORY, (size_t)(slash - path)) != 0)
		return -ENOENT;
	if (lstat(CONTROL_SYSTEM_DIRECTORY, info))
		return -errno;
	return S_ISDIR(info->st_mode) ? 0 : -ENOTDIR;
}

/* The default path for @name, in a directory that is made if need be and then checked. */
static int prepare_default(const char *name, char path[CONTROL_PATH_MAX], struct error *err)
{
	char directory[CONTROL_PATH_MAX];
	int result = control_socket_directory(directory, sizeof(directory), err);

	if (result)
		return result;
	if (mkdir(directory, 0700) && errno != EEXIST)
		return error_errno(err, errno,
				   "%s: cannot make the directory for control sockets; set "
				   "XDG_RUNTIME_DIR to a directory of yours",
				   directory);
	result = control_socket_check_directory(directory, err);
	return result ? result : make_path(directory, name, path, err);
}

static int fill_address(const char *path, struct sockaddr_un *address, struct error *err)
{
	size_t length = strlen(path);

	if (length >= sizeof(address->sun_path))
		return error_say(
			err, ENAMETOOLONG,
			"%s: too long for a socket (%zu bytes at most); use a shorter path", path,
			sizeof(address->sun_path) - 1);
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, length + 1);
	return 0;
}

static int say_in_use(const char *name, const char *path, struct error *err)
{
	return error_say(
		err, EADDRINUSE,
		"a machine named \"%s\" runs already (%s); choose another --name, or end it "
		"by `ebb ctl %s quit`",
		name, path, name);
}

/* 1 if @path still leads to what @fd is open on, 0 if not, -errno. */
static int is_locked_file(const char *path, int fd)
{
	struct stat ours, now;

	if (fstat(fd, &ours))
		return -errno;
	if (lstat(path, &now))
		return errno == ENOENT ? 0 : -errno;
	return ours.st_ino == now.st_ino && ours.st_dev == now.st_dev;
}

/*
 * Locks NAME.lock for as long as the VM lives. A lock file that its owner removed between our open
 * and our flock is no lock: look again.
 */
static int take_lock(struct control_socket *socket, const char *name, struct error *err)
{
	for (;;) {
		int fd = open(socket->lock_path,
			      O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		int result;

		if (fd < 0)
			return error_errno(err, errno, "%s: cannot make the lock file",
					   socket->lock_path);
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			result = errno == EWOULDBLOCK
					 ? say_in_use(name, socket->path, err)
					 : error_errno(err, errno, "%s: flock", socket->lock_path);
			close(fd);
			return result;
		}
		result = is_locked_file(socket->lock_path, fd);
		if (result == 1) {
			socket->lock_fd = fd;
			return 0;
		}
		close(fd);
		if (result)
			return error_errno(err, -result, "%s: lock file", socket->lock_path);
	}
}

/* Its group may come in where the system's directory lets it. */
static void share_with_group(struct control_socket *socket)
{
	struct stat info;

	if (stat_system_directory(socket->path, &info) || (info.st_mode & 077) != 050)
		return;
	socket->shared = true;
	socket->group = info.st_gid;
}

/* Under the lock. */
static int listen_at(struct control_socket *socket, const char *name, struct error *err)
{
	struct unix_listener *listener = &socket->listener;
	int result = unix_listener_open(listener, socket->path, err);

	if (result)
		return result == -EADDRINUSE ? say_in_use(name, socket->path, err) : result;
	if (!chmod(socket->path, socket->shared ? 0660 : 0600) &&
	    (!socket->shared || !chown(socket->path, (uid_t)-1, socket->group)))
		return 0;
	result = error_errno(err, errno, "%s: control socket", socket->path);
	unix_listener_close(listener);
	return result;
}

int control_socket_claim(const char *name, const char *path, struct control_socket **out,
			 struct error *err)
{
	struct control_socket *socket = calloc(1, sizeof(*socket));
	struct sockaddr_un address;
	int result;

	if (!socket)
		return error_errno(err, ENOMEM, "control socket");
	if (path) {
		result = fill_address(path, &address, err);
		if (!result)
			memcpy(socket->path, path, strlen(path) + 1);
		share_with_group(socket);
	} else {
		result = prepare_default(name, socket->path, err);
		if (!result)
			result = fill_address(socket->path, &address, err);
	}
	if (result)
		goto free_socket;
	/* NAME.sock → NAME.lock; any other path P → P.lock. */
	if (path)
		snprintf(socket->lock_path, LOCK_PATH_MAX, "%s.lock", path);
	else
		snprintf(socket->lock_path, LOCK_PATH_MAX, "%.*s.lock",
			 (int)(strlen(socket->path) - strlen(".sock")), socket->path);
	result = take_lock(socket, name, err);
	if (result)
		goto free_socket;
	result = listen_at(socket, name, err);
	if (result)
		goto unlock;
	*out = socket;
	return 0;

unlock:
	unlink(socket->lock_path);
	close(socket->lock_fd);
free_socket:
	free(socket);
	return result;
}

void control_socket_release(struct control_socket *socket)
{
	int result;

	if (!socket)
		return;
	result = unix_listener_remove(&socket->listener);
	if (result)
		log_warning("%s: cannot be removed: %s", socket->path, strerrordesc_np(-result));
	close(socket->listener.fd);
	/* Last: whoever locks the next one finds no socket of ours. */
	removal_unlink(socket->lock_path);
	close(socket->lock_fd);
	free(socket);
}

int control_socket_fd(const struct control_socket *socket)
{
	return socket->listener.fd;
}

const char *control_socket_path(const struct control_socket *socket)
{
	return socket->path;
}

static int get_peer(int fd, struct ucred *peer)
{
	socklen_t length = sizeof(*peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length) ? -errno : 0;
}

/*
 * In a user namespace of ours all others have one number, root too. The socket's mode lets nobody in
 * but ourselves, root and the group that it is shared with.
 */
static bool may_be_root(uid_t user)
{
	return sandbox_layers.namespaces == SANDBOX_USER_NAMESPACES && user == OVERFLOW_USER;
}

int control_socket_check_peer(int fd, pid_t *pid)
{
	struct ucred peer;
	int result = get_peer(fd, &peer);

	if (result)
		return result;
	if (pid)
		*pid = peer.pid;
	return peer.uid == geteuid() || peer.uid == 0 || may_be_root(peer.uid) ? 0 : -EPERM;
}

/* The groups that the peer was in when it connected. */
static bool peer_has_group(int fd, gid_t group)
{
	gid_t groups[256];
	socklen_t length = sizeof(groups);
	struct ucred peer;

	if (!get_peer(fd, &peer) && peer.gid == group)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length))
		return false;
	for (size_t i = 0; i < length / sizeof(groups[0]); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

int control_socket_check_client(const struct control_socket *socket, int fd)
{
	int result = control_socket_check_peer(fd, NULL);

	if (result == -EPERM && socket->shared && peer_has_group(fd, socket->group))
		return 0;
	return result;
}

/* Whether who listens at @path is the user himself, root, or the owner of the system's directory. */
static int check_server(const char *path, int fd)
{
	int result = control_socket_check_peer(fd, NULL);
	struct stat info;
	struct ucred peer;

	if (result == -EPERM && !stat_system_directory(path, &info) && !get_peer(fd, &peer) &&
	    peer.uid == info.st_uid)
		return 0;
	return result;
}

/* @flags: of socket(2). */
static int connect_to(const char *path, const char *name, int flags, int *fd, struct error *err)
{
	struct sockaddr_un address;
	int result = fill_address(path, &address, err);
	int connected;

	if (result)
		return result;
	connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (connected < 0)
		return error_errno(err, errno, "socket");
	if (connect(connected, (const struct sockaddr *)&address, sizeof(address))) {
		int errnum = errno;

		close(connected);
		if (errnum == ENOENT || errnum == ECONNREFUSED)
			return error_say(err, errnum,
					 "no machine named \"%s\" runs here (%s); `ebb ls` lists "
					 "those that do",
					 name, path);
		return error_errno(err, errnum, "%s: control socket of \"%s\"", path, name);
	}
	result = check_server(path, connected);
	if (result) {
		close(connected);
		return error_say(err, -result, "%s: served by another user, so it is not trusted",
				 path);
	}
	*fd = connected;
	return 0;
}

int control_socket_connect(const char *path, const char *name, int *fd, struct error *err)
{
	return connect_to(path, name, 0, fd, err);
}

int control_socket_connect_nowait(const char *path, const char *name, int *fd, struct error *err)
{
	return connect_to(path, name, SOCK_NONBLOCK, fd, err);
}

bool control_socket_name_of(const char *file, char name[static VM_NAME_MAX + 1])
{
	size_t length = strlen(file);

	if (length <= 5 || strcmp(file + length - 5, ".sock") != 0 || length - 5 > VM_NAME_MAX)
		return false;
	memcpy(name, file, length - 5);
	name[length - 5] = '\0';
	return !options_check_name(name, NULL);
}
