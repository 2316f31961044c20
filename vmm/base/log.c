#include "vmm/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "vmm/base/clock.h"

static _Atomic(enum log_level) threshold = LOG_LEVEL_INFO;
static atomic_int copy_fd = -1;

void log_set_level(enum log_level level)
{
	atomic_store(&threshold, level);
}

void log_copy_to(int fd)
{
	atomic_store(&copy_fd, fd);
}

static void log_write(int fd, const char *line, size_t length)
{
	/* Nothing sensible is left to do when nobody reads it, or standard error is gone. */
	if (write(fd, line, length) < 0)
		return;
}

__attribute__((format(printf, 2, 0))) static void log_line(enum log_level level, const char *fmt,
							   va_list args)
{
	static const char *const prefix[] = {
		"ebb: error: ", "ebb: warning: ", "ebb: ", "ebb: debug: "};
	char line[LOG_LINE_MAX];
	int length, body;
	int copy = level <= LOG_LEVEL_WARNING ? atomic_load(&copy_fd) : -1;

	if (level > atomic_load(&threshold))
		return;
	length = snprintf(line, sizeof(line), "%s", prefix[level]);
	body = vsnprintf(line + length, sizeof(line) - (size_t)length - 1, fmt, args);
	if (body < 0)
		return;
	length += body;
	if ((size_t)length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	line[length++] = '\n';
	if (copy >= 0)
		log_write(copy, line, (size_t)length);
	log_write(STDERR_FILENO, line, (size_t)length);
}

#define DEFINE_LOG_FUNCTION(name, level)                                                           \
	void name(const char *fmt, ...)                                                            \
	{                                                                                          \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, fmt);                                                               \
		log_line(level, fmt, args);                                                        \
		va_end(args);                                                                      \
	}

DEFINE_LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
DEFINE_LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

bool log_ratelimit_pass(struct log_ratelimit *limit)
{
	uint64_t now = clock_monotonic_ns();
	uint64_t until = atomic_load(&limit->spent_until_ns);
	uint64_t from;

	do {
		from = until > now ? until : now;
		if (from - now > (LOG_RATELIMIT_BURST - 1) * LOG_RATELIMIT_INTERVAL_NS)
			return false;
	} while (!atomic_compare_exchange_weak(&limit->spent_until_ns, &until,
					       from + LOG_RATELIMIT_INTERVAL_NS));
	return true;
}
