/*
 * `ebb report`: a VM's history (vmm/control/history.h) as one HTML page that needs nothing else.
 * What the VM answers is another process's: nothing of it reaches the page unescaped. One thread.
 */
#ifndef EBB_VMM_CLIENT_REPORT_H
#define EBB_VMM_CLIENT_REPORT_H

#include <jansson.h>
#include <stdio.h>

/* The program's subcommand. Returns the exit status. */
int report_main(int argc, char **argv);

/*
 * Writes the page with @data {history, status, swap: the results of these commands} in it: as JSON in
 * which no byte means anything to HTML, whatever names and paths hold. 0 or -errno.
 */
int report_write(FILE *out, const json_t *data);

#endif
