/*
 * Answers of the control socket as people like to read them, a row a fact. They come from another
 * process, of any version: what is missing or of another type is left out. Any thread; the caller
 * owns the JSON and the stream.
 */
#ifndef EBB_VMM_CLIENT_RENDER_H
#define EBB_VMM_CLIENT_RENDER_H

#include <jansson.h>
#include <stdio.h>

/* The result of @command as text. Members that are missing (another version's VM) are left out. */
void render_result(FILE *out, const char *command, const json_t *result);

/*
 * A progress line, redrawn over itself, at most @columns wide:
 * "out [####....]  42 %  118.3 MiB/s  12 s left". Narrow terminals get less.
 * render_progress_end() wipes it.
 */
void render_progress(FILE *out, const json_t *progress, unsigned columns);
void render_progress_end(FILE *out);

/* An event of vmm/control/events.h as a line. */
void render_event(FILE *out, const json_t *event);

/* The table of `ebb ls` from the VMs' status objects (a JSON array), with totals if there are some. */
void render_list(FILE *out, const json_t *machines);

/* `ebb swap` (see vmm/client/swap_all.h): headings, what became of one machine, and of all. */
void render_swap_all_header(FILE *out, const char *verb);
void render_swap_all(FILE *out, const json_t *outcome);
void render_swap_all_total(FILE *out, const json_t *total);

#endif
