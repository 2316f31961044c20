#include "vmm/client/top/canvas.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SIDE_MAX 4096

static int clamp_side(int side)
{
	return side < 1 ? 1 : side > SIDE_MAX ? SIDE_MAX : side;
}

int canvas_create(int rows, int columns, struct top_canvas **out)
{
	struct top_canvas *canvas = calloc(1, sizeof(*canvas));
	size_t count;

	if (!canvas)
		return -ENOMEM;
	canvas->rows = clamp_side(rows);
	canvas->columns = clamp_side(columns);
	count = (size_t)canvas->rows * (size_t)canvas->columns;
	canvas->cells = calloc(count, sizeof(*canvas->cells));
	if (!canvas->cells) {
		free(canvas);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		canvas->cells[i].glyph = ' ';
	*out = canvas;
	return 0;
}

void canvas_destroy(struct top_canvas *canvas)
{
	if (!canvas)
		return;
	free(canvas->cells);
	free(canvas);
}

struct top_cell *canvas_at(const struct top_canvas *canvas, int row, int column)
{
	if (row < 0 || row >= canvas->rows || column < 0 || column >= canvas->columns)
		return NULL;
	return &canvas->cells[(size_t)row * (size_t)canvas->columns + (size_t)column];
}

void canvas_put(struct top_canvas *canvas, int row, int column, uint32_t glyph,
		enum top_style style)
{
	struct top_cell *cell = canvas_at(canvas, row, column);

	if (cell)
		*cell = (struct top_cell){.glyph = glyph, .style = (uint8_t)style};
}

void canvas_fill(struct top_canvas *canvas, int row, int column, int columns, uint32_t glyph,
		 enum top_style style)
{
	for (int i = 0; i < columns; i++)
		canvas_put(canvas, row, column + i, glyph, style);
}

static uint32_t printable(char c)
{
	return c >= ' ' && c <= '~' ? (uint32_t)c : '?';
}

int canvas_text(struct top_canvas *canvas, int row, int column, enum top_style style,
		const char *fmt, ...)
{
	char text[512];
	va_list arguments;

	va_start(arguments, fmt);
	vsnprintf(text, sizeof(text), fmt, arguments);
	va_end(arguments);
	for (const char *at = text; *at; at++)
		canvas_put(canvas, row, column++, printable(*at), style);
	return column;
}

void canvas_left(struct top_canvas *canvas, int row, int column, int width, uint32_t more,
		 enum top_style style, const char *text)
{
	int length = (int)strlen(text);

	for (int i = 0; i < width; i++) {
		uint32_t glyph = i < length ? printable(text[i]) : ' ';

		canvas_put(canvas, row, column + i, i == width - 1 && length > width ? more : glyph,
			   style);
	}
}

void canvas_right(struct top_canvas *canvas, int row, int column, int width, enum top_style style,
		  const char *text)
{
	int length = (int)strlen(text);

	canvas_fill(canvas, row, column, width - length, ' ', style);
	for (int i = 0; i < width && i < length; i++)
		canvas_put(canvas, row, column + (length < width ? width - length : 0) + i,
			   printable(text[i]), style);
}

static void print_glyph(uint32_t glyph, FILE *out)
{
	if (glyph < 0x80) {
		putc((int)glyph, out);
	} else if (glyph < 0x800) {
		putc((int)(0xc0 | glyph >> 6), out);
		putc((int)(0x80 | (glyph & 0x3f)), out);
	} else {
		putc((int)(0xe0 | (glyph >> 12 & 0xf)), out);
		putc((int)(0x80 | (glyph >> 6 & 0x3f)), out);
		putc((int)(0x80 | (glyph & 0x3f)), out);
	}
}

void canvas_print(const struct top_canvas *canvas, FILE *out)
{
	for (int row = 0; row < canvas->rows; row++) {
		const struct top_cell *cells =
			canvas->cells + (size_t)row * (size_t)canvas->columns;
		int end = canvas->columns;

		while (end > 0 && cells[end - 1].glyph == ' ')
			end--;
		for (int column = 0; column < end; column++)
			print_glyph(cells[column].glyph, out);
		putc('\n', out);
	}
}
