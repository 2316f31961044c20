/*
 * One-line messages on standard error: "ebb: LEVEL: text".
 *
 * Each message is formatted on the stack and written by a single write(2): no stdio, no malloc, no
 * lock, so every thread may log, the fault monitor included. Messages longer than 1 KiB are cut.
 */
#ifndef EBB_BASE_LOG_H
#define EBB_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/* Messages above @level are dropped. The default is LOG_LEVEL_INFO. Any thread. */
void log_set_level(enum log_level level);

/*
 * Errors and warnings go to @fd too, each by one write(2) of at most LOG_LINE_MAX bytes whose failure
 * is ignored; -1: no more. Whoever closes it sees to it that no thread logs meanwhile. Any thread.
 */
#define LOG_LINE_MAX 1024
void log_copy_to(int fd);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Bounds what a guest can make ebb print, also in a day: log_ratelimit_pass() lets
 * LOG_RATELIMIT_BURST messages pass, and one more for each LOG_RATELIMIT_INTERVAL_NS since; for the
 * rest it says false. Zero-initialise; any thread.
 */
#define LOG_RATELIMIT_BURST       10
#define LOG_RATELIMIT_INTERVAL_NS 60000000000ull

struct log_ratelimit {
	_Atomic uint64_t spent_until_ns; /* when all that has passed is made up for */
};

bool log_ratelimit_pass(struct log_ratelimit *limit);

#endif
