/*
 * Whether the host is short of memory: by the kernel's pressure stall information, or, where there
 * is none, by how much memory is available.
 */
#ifndef EBB_VMM_BASE_PRESSURE_H
#define EBB_VMM_BASE_PRESSURE_H

#include <stdbool.h>

/*
 * PSI: some task waited for memory this share of the last ten seconds. Else: this share of memory
 * is not available. From high on there is pressure, up to low there is none; between them it stays
 * as it was.
 */
#define PRESSURE_PSI_HIGH  10.0
#define PRESSURE_PSI_LOW   2.0
#define PRESSURE_USED_HIGH 90.0
#define PRESSURE_USED_LOW  85.0

enum pressure_source {
	PRESSURE_NO_SOURCE, /* neither can be read */
	PRESSURE_PSI,       /* /proc/pressure/memory */
	PRESSURE_MEMINFO,   /* /proc/meminfo */
};

enum pressure_level {
	PRESSURE_UNKNOWN,
	PRESSURE_LOW,
	PRESSURE_MIDDLE,
	PRESSURE_HIGH,
};

struct pressure_reading {
	enum pressure_source source;
	enum pressure_level level;
	double percent;
};

/* Reads the host's files; PRESSURE_NO_SOURCE if it cannot. Takes microseconds. */
void pressure_read(struct pressure_reading *reading);

/* The same from the files' text. False if that is not understood. */
bool pressure_from_psi(const char *text, struct pressure_reading *reading);
bool pressure_from_meminfo(const char *text, struct pressure_reading *reading);

/* "psi", "meminfo", "none" */
/* From now on pressure_read() opens nothing. */
void pressure_keep_open(void);

const char *pressure_source_name(enum pressure_source source);

#endif
