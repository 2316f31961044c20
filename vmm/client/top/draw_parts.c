#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/base/size.h"
#include "vmm/client/top/draw_internal.h"

const struct top_glyphs *draw_glyphs(const struct top_look *look)
{
	static const struct top_glyphs blocks = {
		.kinds = {[TOP_RESIDENT] = 0x2588, /* full block */
			  [TOP_STAGED] = 0x2593,   /* dark shade */
			  [TOP_POOL] = 0x2592,
			  [TOP_DISK] = 0x2591,
			  [TOP_BALLOON] = 0x25cb, /* circle */
			  [TOP_ZERO] = 0xb7},     /* middle dot */
		.more = 0x2026,
		.rule = 0x2500,
		.cursor = 0x25b8,
		.left = 0x2595,
		.right = 0x258f,
		.undone = ' ',
	};
	static const struct top_glyphs ascii = {
		.kinds = {[TOP_RESIDENT] = '#',
			  [TOP_STAGED] = '=',
			  [TOP_POOL] = '+',
			  [TOP_DISK] = ':',
			  [TOP_BALLOON] = 'o',
			  [TOP_ZERO] = '.'},
		.more = '~',
		.rule = '-',
		.cursor = '>',
		.left = '[',
		.right = ']',
		.undone = '.',
	};

	return look->utf8 ? &blocks : &ascii;
}

/* ---- numbers ---- */

/* @value in a unit, with a digit behind the point where there is room for one. */
static char *format(double value, const char *unit, char text[static 16])
{
	snprintf(text, 16, value < 9.95 ? "%.1f%s" : "%.0f%s", value, unit);
	return text;
}

char *draw_size(uint64_t bytes, char text[static 16])
{
	static const char *const units[] = {"K", "M", "G", "T", "P", "E"};
	double value = (double)bytes / (double)KIB;
	size_t unit = 0;

	if (!bytes) {
		snprintf(text, 16, "0");
		return text;
	}
	while (value >= 999.5 && unit + 1 < ARRAY_SIZE(units)) {
		value /= 1024.0;
		unit++;
	}
	return format(value, units[unit], text);
}

char *draw_count(double count, char text[static 16])
{
	if (count < 0.5)
		snprintf(text, 16, "0");
	else if (count < 999.5)
		snprintf(text, 16, "%.0f", count);
	else if (count < 999.5e3)
		format(count / 1e3, "k", text);
	else if (count < 999.5e6)
		format(count / 1e6, "M", text);
	else
		snprintf(text, 16, ">1G");
	return text;
}

char *draw_time(uint64_t ns, char text[static 16])
{
	if (!ns)
		snprintf(text, 16, "-");
	else if (ns < 10 * NS_PER_US)
		return format((double)ns / (double)NS_PER_US, "us", text);
	else if (ns < NS_PER_MS)
		snprintf(text, 16, "%uus", (unsigned)(ns / NS_PER_US));
	else if (ns < NS_PER_SEC)
		return format((double)ns / (double)NS_PER_MS, "ms", text);
	else if (ns < 1000 * NS_PER_SEC)
		return format((double)ns / (double)NS_PER_SEC, "s", text);
	else
		snprintf(text, 16, "%uh", (unsigned)(ns / NS_PER_SEC / 3600 % 10000));
	return text;
}

char *draw_share(double share, char text[static 16])
{
	snprintf(text, 16, "%.0f%%", share < 0.0 ? 0.0 : share > 99.0 ? 9900.0 : share * 100.0);
	return text;
}

unsigned draw_percent(uint64_t done, uint64_t total)
{
	if (done >= total)
		return total ? 100 : 0;
	return (unsigned)(100.0 * (double)done / (double)total);
}

const char *draw_short_command(const char *command)
{
	static const char *const names[][2] = {
		{"swap in --working-set", "in-ws"},
		{"checksum-memory", "sum"},
		{"dump-memory", "dump"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(command, names[i][0]))
			return names[i][1];
	}
	return strncmp(command, "swap ", 5) ? command : command + 5;
}

/* ---- bars ---- */

/*
 * How many of @width cells each kind gets: by its share, but what is there at all is seen as far as
 * there is room.
 */
static void divide(const struct top_vm *vm, int width, int cells[static TOP_KINDS])
{
	int sum = 0;

	for (int kind = 0; kind < TOP_KINDS; kind++) {
		cells[kind] = 0;
		if (vm->kinds[kind]) {
			double share = (double)vm->kinds[kind] / (double)vm->memory_bytes;

			cells[kind] = (int)((double)width * (share < 1.0 ? share : 1.0));
			if (!cells[kind])
				cells[kind] = 1;
		}
		sum += cells[kind];
	}
	for (; sum != width; sum += sum < width ? 1 : -1) {
		int chosen = 0;

		/* Too many: the largest has to give. Too few: who is owed most gets. */
		for (int kind = 1; kind < TOP_KINDS; kind++) {
			double owed = (double)width * (double)vm->kinds[kind] -
				      (double)vm->memory_bytes * cells[kind];
			double most = (double)width * (double)vm->kinds[chosen] -
				      (double)vm->memory_bytes * cells[chosen];

			if (sum < width ? owed > most : cells[kind] > cells[chosen])
				chosen = kind;
		}
		cells[chosen] += sum < width ? 1 : -1;
	}
}

void draw_bar(struct top_canvas *canvas, int row, int column, int width, const struct top_vm *vm,
	      const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	int cells[TOP_KINDS];

	if (width <= 0 || !vm->memory_bytes)
		return;
	divide(vm, width, cells);
	for (int kind = 0; kind < TOP_KINDS; kind++) {
		canvas_fill(canvas, row, column, cells[kind], glyphs->kinds[kind],
			    (enum top_style)(STYLE_KINDS + kind));
		column += cells[kind];
	}
}

void draw_progress(struct top_canvas *canvas, int row, int column, int width, uint64_t done,
		   uint64_t total, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	int inner = width - 2;
	double share = total ? (double)(done < total ? done : total) / (double)total : 0.0;
	int eighths = (int)(share * 8.0 * (double)inner);

	if (inner < 1)
		return;
	canvas_put(canvas, row, column++, glyphs->left, STYLE_DIM);
	for (int i = 0; i < inner; i++, eighths -= 8) {
		uint32_t glyph = glyphs->undone;

		if (eighths >= 8)
			glyph = look->utf8 ? 0x2588 : '#';
		else if (eighths > 0 && look->utf8)
			glyph = 0x2590 - (uint32_t)eighths; /* left blocks of 1/8 to 7/8 */
		canvas_put(canvas, row, column++, glyph, STYLE_GOOD);
	}
	canvas_put(canvas, row, column, glyphs->right, STYLE_DIM);
}

/* ---- the frame ---- */

void draw_title(struct top_canvas *canvas, const char *left, const char *right)
{
	int start = canvas->columns - (int)strlen(right) - 1;

	canvas_fill(canvas, 0, 0, canvas->columns, ' ', STYLE_TITLE);
	canvas_text(canvas, 0, 1, STYLE_TITLE, "%s", left);
	if (start > (int)strlen(left) + 3)
		canvas_text(canvas, 0, start, STYLE_TITLE, "%s", right);
}

/* In as many rows as it takes, the last of them being @row; half of the screen at most. */
static void draw_message(struct top_canvas *canvas, int row, const struct top_model *model)
{
	enum top_style style = model->message_is_error ? STYLE_BAD : STYLE_GOOD;
	int width = canvas->columns > 12 ? canvas->columns - 2 : canvas->columns;
	int rows = 1 + (int)strlen(model->message) / width;
	const char *text = model->message;

	if (rows > canvas->rows / 2)
		rows = canvas->rows / 2;
	for (row -= rows - 1; rows > 0; rows--, row++) {
		int length = (int)strlen(text);

		if (length > width) {
			length = width;
			for (int i = width; i > width / 2 && length == width; i--)
				if (text[i] == ' ')
					length = i;
		}
		canvas_fill(canvas, row, 0, canvas->columns, ' ', style);
		canvas_text(canvas, row, canvas->columns > 12, style, "%.*s", length, text);
		text += length;
		text += strspn(text, " ");
	}
}

void draw_last_row(struct top_canvas *canvas, int row, const struct top_model *model,
		   const char *const *keys)
{
	int column = 1;

	if (model->message[0]) {
		draw_message(canvas, row, model);
		return;
	}
	for (; *keys; keys++) {
		const char *blank = strchr(*keys, ' ');
		int length = (int)(blank - *keys);

		if (column + (int)strlen(*keys) > canvas->columns)
			return;
		column = canvas_text(canvas, row, column, STYLE_KEY, "%.*s", length, *keys);
		column = canvas_text(canvas, row, column, STYLE_DIM, "%s  ", blank);
	}
}
