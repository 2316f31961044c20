#include "vmm/base/size.h"

#include <errno.h>
#include <stdio.h>

#include "vmm/base/checked.h"

static int unit_shift(char unit)
{
	switch (unit) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return -1;
	}
}

int size_parse(const char *text, uint64_t *bytes)
{
	uint64_t value = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!checked_mul(value, 10, &value) ||
		    !checked_add(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	if (*p) {
		int shift = unit_shift(*p++);

		if (shift < 0 || *p)
			return -EINVAL;
		if (!checked_mul(value, 1ull << shift, &value))
			return -ERANGE;
	}
	*bytes = value;
	return 0;
}

char *size_format(uint64_t bytes, char *text, size_t length)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(text, length, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}
