#include "vmm/base/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/base/checked.h"

static struct termios original;
static struct termios raw;
/* The terminal that is raw now, -1: none. Changes hands atomically, so that it is put back once. */
static atomic_int raw_fd = -1;
/* Put back for the time of a stop (SIGTSTP); raw again at SIGCONT. */
static atomic_int stopped_fd = -1;

bool terminal_is_foreground(int fd)
{
	pid_t group = tcgetpgrp(fd);

	/* Not our controlling terminal: there is no job control to mind. */
	return group < 0 || group == getpgrp();
}

void terminal_restore(void)
{
	int saved_errno = errno;
	int fd = atomic_exchange(&raw_fd, -1);

	/* From the background the change would stop us; the shell has its own modes then. */
	if (fd >= 0 && terminal_is_foreground(fd))
		tcsetattr(fd, TCSANOW, &original);
	errno = saved_errno;
}

/* Puts the terminal back and lets the signal do what it does by default. */
static void on_fatal(int number)
{
	sigset_t set;

	terminal_restore();
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	raise(number);
}

static void on_stop(int number)
{
	int saved_errno = errno;
	int fd = atomic_load(&raw_fd);

	(void)number;
	terminal_restore();
	atomic_store(&stopped_fd, fd);
	raise(SIGSTOP);
	errno = saved_errno;
}

/* Also after a SIGSTOP that nobody could prepare for: the shell may have changed the modes. */
static void on_continue(int number)
{
	int saved_errno = errno;
	int fd = atomic_exchange(&stopped_fd, -1);

	(void)number;
	if (fd >= 0)
		atomic_store(&raw_fd, fd);
	fd = atomic_load(&raw_fd);
	if (fd >= 0 && terminal_is_foreground(fd))
		tcsetattr(fd, TCSANOW, &raw);
	errno = saved_errno;
}

static void handle_if_default(int number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
	struct sigaction old;

	sigemptyset(&action.sa_mask);
	if (!sigaction(number, NULL, &old) && !(old.sa_flags & SA_SIGINFO) &&
	    old.sa_handler == SIG_DFL)
		sigaction(number, &action, NULL);
}

static void install_handlers(void)
{
	static const int fatal[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE, SIGABRT,
				    SIGSYS,  SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	static bool installed;

	if (installed)
		return;
	installed = true;
	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		handle_if_default(fatal[i], on_fatal);
	handle_if_default(SIGTSTP, on_stop);
	handle_if_default(SIGCONT, on_continue);
	atexit(terminal_restore);
}

int terminal_set_raw(int fd)
{
	struct termios modes;

	if (atomic_load(&raw_fd) >= 0)
		return 0;
	if (!terminal_is_foreground(fd))
		return -EAGAIN;
	if (tcgetattr(fd, &modes))
		return -errno;
	original = modes;
	cfmakeraw(&modes);
	modes.c_oflag = original.c_oflag;
	modes.c_cc[VMIN] = 1;
	modes.c_cc[VTIME] = 0;
	raw = modes;
	install_handlers();
	atomic_store(&raw_fd, fd);
	if (tcsetattr(fd, TCSANOW, &modes)) {
		int result = -errno;

		atomic_store(&raw_fd, -1);
		return result;
	}
	return 0;
}
