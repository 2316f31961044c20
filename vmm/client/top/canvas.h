/*
 * A rectangle of character cells: `ebb top` is drawn on it, then shown by ncurses or printed. What
 * lies outside is not drawn, so that nobody has to care how small the terminal is.
 */
#ifndef EBB_VMM_CLIENT_TOP_CANVAS_H
#define EBB_VMM_CLIENT_TOP_CANVAS_H

#include <stdint.h>
#include <stdio.h>

enum top_style {
	STYLE_PLAIN,
	STYLE_TITLE,
	STYLE_HEAD,
	STYLE_DIM,
	STYLE_STRONG,
	STYLE_CURSOR, /* the selected row */
	STYLE_KEY,
	STYLE_GOOD,
	STYLE_BAD,
	STYLE_KINDS, /* and one for each enum top_kind */
	STYLE_COUNT = STYLE_KINDS + 6,
};

struct top_cell {
	uint32_t glyph; /* a code point of width 1 */
	uint8_t style;  /* enum top_style */
};

struct top_canvas {
	int rows;
	int columns;
	struct top_cell *cells;
};

/* Blank. Sizes below 1 are taken for 1. 0, or -ENOMEM. */
int canvas_create(int rows, int columns, struct top_canvas **out);
void canvas_destroy(struct top_canvas *canvas);

/* NULL if the place is outside. */
struct top_cell *canvas_at(const struct top_canvas *canvas, int row, int column);

void canvas_put(struct top_canvas *canvas, int row, int column, uint32_t glyph,
		enum top_style style);

/* Fills @columns cells from @column on. */
void canvas_fill(struct top_canvas *canvas, int row, int column, int columns, uint32_t glyph,
		 enum top_style style);

/* ASCII text; what is not printable becomes '?'. Returns the column behind it. */
int canvas_text(struct top_canvas *canvas, int row, int column, enum top_style style,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same, in @width columns: cut off, the last one being @more, or padded on the left. */
void canvas_left(struct top_canvas *canvas, int row, int column, int width, uint32_t more,
		 enum top_style style, const char *text);
void canvas_right(struct top_canvas *canvas, int row, int column, int width, enum top_style style,
		  const char *text);

/* Prints the rows in UTF-8, without styles and without blanks at the end. */
void canvas_print(const struct top_canvas *canvas, FILE *out);

#endif
