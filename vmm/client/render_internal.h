/*
 * What vmm/client/render*.c share: render.c has the machine, render_list.c the list, render_swap.c
 * what concerns swap, render_map.c where memory is, render_history.c what was, render_progress.c
 * the progress line, render_event.c events, render_row.c these rows of a table.
 *
 * A row is two spaces, a label of 20 columns, a space and the value. Members that are missing or
 * of another type make no row.
 */
#ifndef EBB_VMM_CLIENT_RENDER_INTERNAL_H
#define EBB_VMM_CLIENT_RENDER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/client/render.h"

#define RENDER_COLUMNS 80u

/* False if @object has no such number of that name. */
bool render_get_number(const json_t *object, const char *key, uint64_t *number);
bool render_get_real(const json_t *object, const char *key, double *number);

/* 0 and "" if there is none. */
uint64_t render_number(const json_t *object, const char *key);
const char *render_text(const json_t *object, const char *key);

/* Writes e.g. "4.2 us" or "2 h 5 min" to @text, for which 48 bytes are enough. Returns it. */
char *render_format_duration(uint64_t ns, char *text, size_t length);

void render_row(FILE *out, const char *label, const char *value);
void render_size(FILE *out, const char *label, const json_t *object, const char *key);
void render_count(FILE *out, const char *label, const json_t *object, const char *key);
void render_duration(FILE *out, const char *label, const json_t *object, const char *key);
/* "swapped out              12345    48.2 MiB" */
void render_pages(FILE *out, const char *label, const json_t *object, const char *key);
/* The same where @object does not say how large a page is. */
void render_page_count(FILE *out, const char *label, const json_t *object, const char *key,
		       uint64_t page_size);

/* @text in lines of RENDER_COLUMNS at most, each behind @indent spaces. */
void render_wrapped(FILE *out, unsigned indent, const char *text);

/* render_history.c */
void render_history(FILE *out, const json_t *history);

/* render_swap.c */
void render_store_summary(FILE *out, const json_t *swap); /* of `status` */
void render_swap_status(FILE *out, const json_t *result);
void render_swap_auto(FILE *out, const json_t *automation);
void render_swap_cancel(FILE *out, const json_t *result);
void render_report(FILE *out, const char *command, const json_t *report);
void render_prefetch(FILE *out, const json_t *result);
void render_dump(FILE *out, const json_t *result);
void render_checksum(FILE *out, const json_t *result);

/* render_map.c */
void render_memory_map(FILE *out, const json_t *result);

#endif
