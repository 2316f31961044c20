/*
 * What went wrong, in words for the person who can mend it.
 *
 * Fallible functions return 0 or -errno. Those whose failure a user reads take a struct error too
 * and fill it with one line: what failed, on what, why, and what can be done. The caller owns the
 * struct; every function accepts NULL for "the code is enough". No locks, no allocation.
 */
#ifndef EBB_BASE_ERROR_H
#define EBB_BASE_ERROR_H

struct error {
	char text[512];
};

/*
 * Stores "MESSAGE: strerror(errnum)". @errnum is positive (errno's own sign). Returns -errnum, so
 * that `return error_errno(err, errno, "%s: open", path);` is the whole error path.
 */
int error_errno(struct error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Like error_errno(), but MESSAGE alone: for failures whose errno text would only confuse. */
int error_say(struct error *err, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
