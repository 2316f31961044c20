/*
 * What vmm/client/top/draw*.c share: draw.c has the frame and the help, draw_list.c the list,
 * draw_vm.c one machine, draw_parts.c bars and numbers.
 */
#ifndef EBB_VMM_CLIENT_TOP_DRAW_INTERNAL_H
#define EBB_VMM_CLIENT_TOP_DRAW_INTERNAL_H

#include "vmm/client/top/draw.h"

struct top_glyphs {
	uint32_t kinds[TOP_KINDS];
	uint32_t more;        /* text goes on */
	uint32_t rule;        /* a line */
	uint32_t cursor;      /* before the selected row */
	uint32_t left, right; /* ends of a progress bar */
	uint32_t undone;      /* of a progress bar */
};

const struct top_glyphs *draw_glyphs(const struct top_look *look);

/* Numbers in at most five columns: "1.5G", "12k", "127us", "42%". Return @text, of 16 bytes. */
char *draw_size(uint64_t bytes, char text[static 16]);
char *draw_count(double count, char text[static 16]);
char *draw_time(uint64_t ns, char text[static 16]);
char *draw_share(double share, char text[static 16]);

/* A machine's memory by kind, in @width columns. */
void draw_bar(struct top_canvas *canvas, int row, int column, int width, const struct top_vm *vm,
	      const struct top_look *look);

/* @done of @total, in @width columns. */
void draw_progress(struct top_canvas *canvas, int row, int column, int width, uint64_t done,
		   uint64_t total, const struct top_look *look);

/* In percent, at most 100. */
unsigned draw_percent(uint64_t done, uint64_t total);

/* "swap in --working-set" as "in-ws": what is running, in few letters. */
const char *draw_short_command(const char *command);

void draw_title(struct top_canvas *canvas, const char *left, const char *right);

/* The last row: the message if there is one, else the keys: "e enable" and so on. */
void draw_last_row(struct top_canvas *canvas, int row, const struct top_model *model,
		   const char *const *keys);

void draw_list(struct top_canvas *canvas, const struct top_model *model,
	       const struct top_view *view, const struct top_look *look);
void draw_machine(struct top_canvas *canvas, const struct top_model *model,
		  const struct top_view *view, const struct top_look *look);

#endif
