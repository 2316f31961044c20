#include "vmm/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_errno(struct error *err, int errnum, const char *fmt, ...)
{
	va_list args;
	int length;

	if (!err)
		return -errnum;
	va_start(args, fmt);
	length = vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	if (length >= 0 && (size_t)length < sizeof(err->text))
		snprintf(err->text + length, sizeof(err->text) - (size_t)length, ": %s",
			 strerrordesc_np(errnum));
	return -errnum;
}

int error_say(struct error *err, int errnum, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return -errnum;
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	return -errnum;
}
