#include "vmm/control/console_spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/log.h"
#include "vmm/control/control_socket.h"
#include "vmm/machine/config.h"

/* VM → spawner: start a console; or, without a name, end the one that runs. */
struct request {
	char name[VM_NAME_MAX + 1];
	char socket_path[CONTROL_PATH_MAX];
};

/* Spawner → VM: the console has ended, or (-errno) did not start. */
struct answer {
	int result;
};

struct console_spawn {
	struct chardev *chardev;
	struct event_source *source; /* NULL: no console runs */
	int socket;
	pid_t spawner;
};

/* ---- the spawner ---- */

static int set_attributes(posix_spawnattr_t *attributes, posix_spawn_file_actions_t *actions)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none;
	sigset_t all;
	int result;

	sigemptyset(&none);
	sigfillset(&all);
	if (tcgetpgrp(STDIN_FILENO) >= 0) {
		flags |= POSIX_SPAWN_SETPGROUP;
		result = posix_spawn_file_actions_addtcsetpgrp_np(actions, STDIN_FILENO);
		if (result)
			return result;
	}
	result = posix_spawnattr_setsigmask(attributes, &none);
	if (!result)
		result = posix_spawnattr_setsigdefault(attributes, &all);
	if (!result)
		result = posix_spawnattr_setflags(attributes, flags);
	/* Standard output may lead elsewhere, the console belongs on the terminal. */
	if (!result && !isatty(STDOUT_FILENO))
		result = posix_spawn_file_actions_adddup2(actions, STDIN_FILENO, STDOUT_FILENO);
	return result;
}

static int spawn_child(const char *name, const char *socket_path, pid_t *pid)
{
	const char *const argv[] = {"ebb",       "console", "--attached", "--socket",
				    socket_path, "--",      name,         NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int result = posix_spawn_file_actions_init(&actions);

	if (result)
		return -result;
	result = posix_spawnattr_init(&attributes);
	if (result)
		goto destroy_actions;
	result = set_attributes(&attributes, &actions);
	if (!result)
		result = posix_spawn(pid, "/proc/self/exe", &actions, &attributes,
				     (char *const *)argv, environ);
	posix_spawnattr_destroy(&attributes);
destroy_actions:
	posix_spawn_file_actions_destroy(&actions);
	return -result;
}

static void end_child(pid_t pid)
{
	/* It restores the terminal and ends; SIGCONT in case it was stopped. */
	kill(pid, SIGTERM);
	kill(pid, SIGCONT);
}

/* Until it ends; a word, or silence, from the VM ends it. */
static void attend(int socket, pid_t pid)
{
	int pidfd = pidfd_open(pid, 0);
	struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN}, {.fd = socket, .events = POLLIN}};
	struct request request;

	while (pidfd >= 0 && poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if (pidfd < 0 || !(fds[0].revents & POLLIN)) {
		if (pidfd >= 0)
			recv(socket, &request, sizeof(request), 0);
		end_child(pid);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (pidfd >= 0)
		close(pidfd);
}

/* SIGTERM and its like are blocked, as they are in the VM: its end is the spawner's. */
static _Noreturn void run_spawner(int socket)
{
	struct request request;

	prctl(PR_SET_NAME, "ebb-spawner");
	for (;;) {
		ssize_t length = recv(socket, &request, sizeof(request), 0);
		struct answer answer;
		pid_t pid;

		if (length < 0 && errno == EINTR)
			continue;
		if (length != sizeof(request))
			_exit(0);
		/* From a VM that may have been taken over. */
		request.name[sizeof(request.name) - 1] = '\0';
		request.socket_path[sizeof(request.socket_path) - 1] = '\0';
		/* To end a console that has just ended by itself. */
		if (!request.name[0])
			continue;
		answer.result = spawn_child(request.name, request.socket_path, &pid);
		if (!answer.result)
			attend(socket, pid);
		send(socket, &answer, sizeof(answer), MSG_NOSIGNAL);
	}
}

/* ---- the VM ---- */

int console_spawn_create(struct console_spawn **out, struct error *err)
{
	struct console_spawn *spawn = calloc(1, sizeof(*spawn));
	int ends[2];

	if (!spawn)
		return error_errno(err, ENOMEM, "console");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) {
		error_errno(err, errno, "console: socketpair");
		goto free_spawn;
	}
	spawn->spawner = fork();
	if (spawn->spawner < 0) {
		error_errno(err, errno, "console: fork");
		goto close_ends;
	}
	if (!spawn->spawner) {
		close(ends[0]);
		run_spawner(ends[1]);
	}
	close(ends[1]);
	spawn->socket = ends[0];
	*out = spawn;
	return 0;

close_ends:
	close(ends[0]);
	close(ends[1]);
free_spawn:
	free(spawn);
	return -EAGAIN;
}

/*
 * The console gets a process group of its own in the foreground of the terminal, so that Ctrl-C
 * there interrupts the console and not the VM.
 */
static void take_foreground_back(void)
{
	sigset_t stop;
	sigset_t before;

	if (tcgetpgrp(STDIN_FILENO) < 0)
		return;
	/* We are in the background now, where this would stop us. */
	sigemptyset(&stop);
	sigaddset(&stop, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &stop, &before);
	tcsetpgrp(STDIN_FILENO, getpgrp());
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The console has ended, or never began. The terminal is the serial line's again. */
static void finish(struct console_spawn *spawn)
{
	struct answer answer = {0};

	while (recv(spawn->socket, &answer, sizeof(answer), 0) < 0 && errno == EINTR)
		;
	if (answer.result)
		log_error("the console cannot be started: %s", strerrordesc_np(-answer.result));
	event_source_remove(spawn->source);
	spawn->source = NULL;
	take_foreground_back();
	chardev_unmute(spawn->chardev);
}

static void on_answer(void *opaque, uint32_t events)
{
	(void)events;
	finish(opaque);
}

int console_spawn_start(struct console_spawn *spawn, struct event_loop *loop,
			struct chardev *chardev, const char *name, const char *socket_path,
			struct error *err)
{
	struct request request = {0};
	int result;

	if (spawn->source)
		return 0;
	strncpy(request.name, name, sizeof(request.name) - 1);
	strncpy(request.socket_path, socket_path, sizeof(request.socket_path) - 1);
	spawn->chardev = chardev;
	result = event_loop_add(loop, spawn->socket, EPOLLIN, on_answer, spawn, &spawn->source);
	if (result)
		return error_errno(err, -result, "the console cannot be started");
	chardev_mute(chardev);
	if (send(spawn->socket, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request))
		return 0;
	result = error_errno(err, errno, "the console cannot be started");
	event_source_remove(spawn->source);
	spawn->source = NULL;
	chardev_unmute(chardev);
	return result;
}

void console_spawn_destroy(struct console_spawn *spawn)
{
	static const struct request end;

	if (!spawn)
		return;
	if (spawn->source) {
		send(spawn->socket, &end, sizeof(end), MSG_NOSIGNAL);
		finish(spawn);
	}
	close(spawn->socket);
	while (waitpid(spawn->spawner, NULL, 0) < 0 && errno == EINTR)
		;
	free(spawn);
}
