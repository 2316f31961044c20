/*
 * The user's terminal in raw mode, and back again whatever happens.
 *
 * One terminal per process. Raw but for output processing (OPOST stays, so that lines of the log
 * look right). While it is raw, handlers on the fatal signals and, where the program left them at
 * their default, on SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGTSTP put it back before the signal does
 * its work; atexit() does too. After SIGCONT it is raw again, if the process is in the foreground.
 */
#ifndef EBB_VMM_BASE_TERMINAL_H
#define EBB_VMM_BASE_TERMINAL_H

#include <stdbool.h>

/*
 * Remembers the modes of terminal @fd and makes it raw. 0; -EAGAIN if this process is in the
 * background (nothing is changed; try again later); -errno. Main thread.
 */
int terminal_set_raw(int fd);

/* Puts the terminal back if it is raw. Async-signal-safe, any thread. */
void terminal_restore(void);

/* True if this process may read from and change terminal @fd without being stopped. */
bool terminal_is_foreground(int fd);

#endif
