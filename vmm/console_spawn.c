#include "vmm/console_spawn.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/log.h"

struct console_spawn {
	struct chardev *chardev;
	struct event_source *source;
	int pidfd;
	pid_t pid;
	void (*done)(void *opaque);
	void *opaque;
};

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
				    socket_path, name,      NULL};
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

/* The terminal is the serial line's again. */
static void finish(struct console_spawn *spawn)
{
	siginfo_t info;

	waitid(P_PIDFD, (id_t)spawn->pidfd, &info, WEXITED);
	event_source_remove(spawn->source);
	spawn->source = NULL;
	close(spawn->pidfd);
	spawn->pidfd = -1;
	take_foreground_back();
	chardev_unmute(spawn->chardev);
}

static void on_exit_of_child(void *opaque, uint32_t events)
{
	struct console_spawn *spawn = opaque;

	(void)events;
	finish(spawn);
	if (spawn->done)
		spawn->done(spawn->opaque);
}

int console_spawn_start(struct event_loop *loop, struct chardev *chardev, const char *name,
			const char *socket_path, void (*done)(void *opaque), void *opaque,
			struct console_spawn **out, struct error *err)
{
	struct console_spawn *spawn = calloc(1, sizeof(*spawn));
	int result;

	if (!spawn)
		return error_errno(err, ENOMEM, "console");
	spawn->chardev = chardev;
	spawn->done = done;
	spawn->opaque = opaque;
	chardev_mute(chardev);
	result = spawn_child(name, socket_path, &spawn->pid);
	if (result)
		goto unmute;
	spawn->pidfd = pidfd_open(spawn->pid, 0);
	if (spawn->pidfd < 0) {
		result = -errno;
		goto kill_child;
	}
	result = event_loop_add(loop, spawn->pidfd, EPOLLIN, on_exit_of_child, spawn,
				&spawn->source);
	if (result)
		goto close_pidfd;
	*out = spawn;
	return 0;

close_pidfd:
	close(spawn->pidfd);
kill_child:
	kill(spawn->pid, SIGKILL);
	waitpid(spawn->pid, NULL, 0);
	take_foreground_back();
unmute:
	chardev_unmute(chardev);
	free(spawn);
	return error_errno(err, -result, "the console cannot be started");
}

void console_spawn_destroy(struct console_spawn *spawn)
{
	if (!spawn)
		return;
	if (spawn->pidfd >= 0) {
		/* It restores the terminal and ends; SIGCONT in case it was stopped. */
		kill(spawn->pid, SIGTERM);
		kill(spawn->pid, SIGCONT);
		finish(spawn);
	}
	free(spawn);
}
