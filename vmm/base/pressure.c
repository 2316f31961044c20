#include "vmm/base/pressure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/proc_file.h"

static enum pressure_level level_of(double percent, double low, double high)
{
	if (percent >= high)
		return PRESSURE_HIGH;
	return percent <= low ? PRESSURE_LOW : PRESSURE_MIDDLE;
}

bool pressure_from_psi(const char *text, struct pressure_reading *reading)
{
	const char *value = strstr(text, "some avg10=");
	double percent;
	char *end;

	if (!value)
		return false;
	value += strlen("some avg10=");
	percent = strtod(value, &end);
	if (end == value || !(percent >= 0.0 && percent <= 100.0))
		return false;
	*reading = (struct pressure_reading){
		.source = PRESSURE_PSI,
		.level = level_of(percent, PRESSURE_PSI_LOW, PRESSURE_PSI_HIGH),
		.percent = percent,
	};
	return true;
}

/* The number behind @name at the beginning of a line. */
static bool find_kib(const char *text, const char *name, uint64_t *kib)
{
	const char *line = text;
	size_t length = strlen(name);

	while (strncmp(line, name, length) != 0) {
		line = strchr(line, '\n');
		if (!line)
			return false;
		line++;
	}
	/* NOLINTNEXTLINE(cert-err34-c): the kernel wrote it */
	return sscanf(line + length, "%" SCNu64, kib) == 1;
}

bool pressure_from_meminfo(const char *text, struct pressure_reading *reading)
{
	uint64_t total;
	uint64_t available;
	double percent;

	if (!find_kib(text, "MemTotal:", &total) || !find_kib(text, "MemAvailable:", &available) ||
	    !total || available > total)
		return false;
	percent = 100.0 * (double)(total - available) / (double)total;
	*reading = (struct pressure_reading){
		.source = PRESSURE_MEMINFO,
		.level = level_of(percent, PRESSURE_USED_LOW, PRESSURE_USED_HIGH),
		.percent = percent,
	};
	return true;
}

static struct proc_file psi = {.path = "/proc/pressure/memory"};
static struct proc_file meminfo = {.path = "/proc/meminfo"};

void pressure_keep_open(void)
{
	proc_file_keep(&psi);
	proc_file_keep(&meminfo);
}

void pressure_read(struct pressure_reading *reading)
{
	char text[1024];

	if (proc_file_read(&psi, text, sizeof(text)) && pressure_from_psi(text, reading))
		return;
	if (proc_file_read(&meminfo, text, sizeof(text)) && pressure_from_meminfo(text, reading))
		return;
	*reading = (struct pressure_reading){0};
}

const char *pressure_source_name(enum pressure_source source)
{
	static const char *const names[] = {
		[PRESSURE_NO_SOURCE] = "none",
		[PRESSURE_PSI] = "psi",
		[PRESSURE_MEMINFO] = "meminfo",
	};

	return names[source];
}
