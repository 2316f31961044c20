/*
 * For tests alone: does what the sandbox forbids. In a program built with EBB_SANDBOX_PROBE, the
 * environment's EBB_SANDBOX_PROBE="KIND:ACT" makes the first thread of that kind do it as soon as it
 * is confined. Elsewhere this is nothing.
 */
#ifndef EBB_VMM_SANDBOX_SANDBOX_PROBE_H
#define EBB_VMM_SANDBOX_SANDBOX_PROBE_H

#include <stdbool.h>

#include "vmm/sandbox/sandbox_filter.h"

#ifdef EBB_SANDBOX_PROBE
void sandbox_probe(enum sandbox_kind kind);
/* "rights:DIRECTORY": after everything but the filters, says how each of many attempts ends. */
void sandbox_probe_rights(void);
/* "root:kept": the sandbox behaves as on a host where the root cannot be changed. */
bool sandbox_probe_keeps_root(void);
#else
static inline void sandbox_probe_rights(void)
{
}
static inline bool sandbox_probe_keeps_root(void)
{
	return false;
}
static inline void sandbox_probe(enum sandbox_kind kind)
{
	(void)kind;
}
#endif

#endif
