/* The list of machines. */
#include <string.h>

#include "vmm/client/top/draw_internal.h"

/* Which row is what; -1: there is no room for it. */
struct layout {
	int title;
	int legend;
	int head;
	int first; /* machine */
	int room;  /* for machines */
	int rule;
	int total;
	int last;
};

static struct layout lay_out(int rows, bool interactive)
{
	struct layout layout = {-1, -1, -1, 0, 0, -1, -1, -1};
	int next = 0;
	int end = rows;

	if (rows >= 5)
		layout.title = next++;
	if (rows >= 9)
		next++;
	if (rows >= 8)
		layout.legend = next++;
	if (rows >= 12)
		next++;
	if (rows >= 3)
		layout.head = next++;
	if (interactive && rows >= 4)
		layout.last = --end;
	if (rows >= 6)
		layout.total = --end;
	if (rows >= 10)
		layout.rule = --end;
	layout.first = next;
	layout.room = end > next ? end - next : 0;
	return layout;
}

size_t top_draw_list_room(int rows, const struct top_look *look)
{
	return (size_t)lay_out(rows, look->interactive).room;
}

int top_draw_list_rows(size_t count, const struct top_look *look)
{
	int rows = 12;

	/* What is not for machines is the same for all lists that are this long. */
	rows = rows - lay_out(rows, look->interactive).room + (int)count;
	return rows < 12 ? 12 : rows;
}

/* Columns from which on something is shown; 0 width: not at all. */
struct columns {
	int name, state, size, ram, bar, disk, faults, p99, cpu;
	int name_width, bar_width;
};

#define STATE_WIDTH  11
#define NUMBER_WIDTH 5

static struct columns divide_columns(int width)
{
	struct columns at = {.name = 2, .name_width = width >= 110 ? 24 : 12};
	int left = width;
	int next;

	if (width < 26)
		at.name_width = width / 2 > 2 ? width / 2 - 2 : 1;
	next = at.name + at.name_width + 1;
	if (width >= 36) {
		at.state = next;
		next += STATE_WIDTH + 1;
	}
	if (width >= 50) {
		at.size = next;
		next += NUMBER_WIDTH + 1;
	}
	if (width >= 44) {
		at.ram = next;
		next += NUMBER_WIDTH + 1;
	}
	at.bar = next + (width >= 44);
	if (width >= 58) {
		left -= NUMBER_WIDTH + 1;
		at.cpu = left;
	}
	if (width >= 72) {
		left -= NUMBER_WIDTH + 1;
		at.p99 = left;
	}
	if (width >= 64) {
		left -= NUMBER_WIDTH + 1;
		at.faults = left;
	}
	if (width >= 96) {
		left -= NUMBER_WIDTH + 1;
		at.disk = left;
	}
	at.bar_width = left - at.bar - 1;
	return at;
}

static void draw_head(struct top_canvas *canvas, int row, const struct columns *at)
{
	canvas_fill(canvas, row, 0, canvas->columns, ' ', STYLE_HEAD);
	canvas_left(canvas, row, at->name, at->name_width, ' ', STYLE_HEAD, "NAME");
	if (at->state)
		canvas_text(canvas, row, at->state, STYLE_HEAD, "STATE");
	if (at->size)
		canvas_right(canvas, row, at->size, NUMBER_WIDTH, STYLE_HEAD, "SIZE");
	if (at->ram)
		canvas_right(canvas, row, at->ram, NUMBER_WIDTH, STYLE_HEAD, "RAM");
	if (at->bar_width >= 6)
		canvas_text(canvas, row, at->bar, STYLE_HEAD, "MEMORY");
	if (at->disk)
		canvas_right(canvas, row, at->disk, NUMBER_WIDTH, STYLE_HEAD, "DISK");
	if (at->faults)
		canvas_right(canvas, row, at->faults, NUMBER_WIDTH, STYLE_HEAD, "FLT/S");
	if (at->p99)
		canvas_right(canvas, row, at->p99, NUMBER_WIDTH, STYLE_HEAD, "P99");
	if (at->cpu)
		canvas_right(canvas, row, at->cpu, NUMBER_WIDTH, STYLE_HEAD, "CPU");
}

/* A word for what the machine is at, and whether it asks for attention. */
static enum top_style say_state(const struct top_vm *vm, char *text, size_t size)
{
	switch (vm->health) {
	case TOP_NEW:
		snprintf(text, size, "...");
		return STYLE_DIM;
	case TOP_SILENT:
		snprintf(text, size, "no answer");
		return STYLE_BAD;
	case TOP_GONE:
		snprintf(text, size, "ended");
		return STYLE_BAD;
	case TOP_ALIVE:
		break;
	}
	if (vm->operation.running) {
		snprintf(text, size, "%s %u%%", draw_short_command(vm->operation.command),
			 draw_percent(vm->operation.pages_done, vm->operation.pages_total));
		return STYLE_GOOD;
	}
	if (strcmp(vm->state, "running") != 0) {
		snprintf(text, size, "%s", vm->state);
		return vm->reason[0] ? STYLE_BAD : STYLE_STRONG;
	}
	snprintf(text, size, "%s",
		 strcmp(vm->swap_state, "disabled") != 0 && vm->swap_state[0] ? vm->swap_state
									      : vm->state);
	return STYLE_PLAIN;
}

static void draw_numbers(struct top_canvas *canvas, int row, const struct columns *at,
			 const struct top_vm *vm, enum top_style style)
{
	char text[16];

	if (at->size)
		canvas_right(canvas, row, at->size, NUMBER_WIDTH, style,
			     draw_size(vm->memory_bytes, text));
	if (at->ram)
		canvas_right(canvas, row, at->ram, NUMBER_WIDTH, style,
			     draw_size(vm->host_bytes, text));
	if (at->disk)
		canvas_right(canvas, row, at->disk, NUMBER_WIDTH, style,
			     draw_size(vm->disk_bytes, text));
	if (at->faults)
		canvas_right(canvas, row, at->faults, NUMBER_WIDTH, style,
			     draw_count(vm->faults_per_s, text));
	if (at->p99)
		canvas_right(canvas, row, at->p99, NUMBER_WIDTH, style,
			     draw_time(vm->p99_ns, text));
	if (at->cpu)
		canvas_right(canvas, row, at->cpu, NUMBER_WIDTH, style,
			     draw_share(vm->cpu_share, text));
}

static void draw_row(struct top_canvas *canvas, int row, const struct columns *at,
		     const struct top_vm *vm, bool selected, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	enum top_style state_style;
	enum top_style style = selected ? STYLE_CURSOR : STYLE_PLAIN;
	char state[TOP_TEXT + 8];

	if (vm->health == TOP_GONE)
		style = STYLE_DIM;
	state_style = say_state(vm, state, sizeof(state));
	if (selected) {
		canvas_put(canvas, row, 0, glyphs->cursor, STYLE_CURSOR);
		canvas_fill(canvas, row, 1, canvas->columns - 1, ' ', STYLE_CURSOR);
		canvas_fill(canvas, row, at->bar - 1, at->bar_width + 2, ' ', STYLE_PLAIN);
	}
	canvas_left(canvas, row, at->name, at->name_width, glyphs->more, style, vm->name);
	if (at->state)
		canvas_left(canvas, row, at->state, STATE_WIDTH, glyphs->more,
			    selected ? STYLE_CURSOR : state_style, state);
	if (vm->health == TOP_NEW || vm->health == TOP_GONE)
		return;
	draw_numbers(canvas, row, at, vm, selected ? STYLE_CURSOR : STYLE_PLAIN);
	draw_bar(canvas, row, at->bar, at->bar_width, vm, look);
}

static void draw_legend(struct top_canvas *canvas, int row, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	int column = 2;

	for (int kind = 0; kind < TOP_KINDS; kind++) {
		const char *name = top_kind_name((enum top_kind)kind);

		if (column + 3 + (int)strlen(name) > canvas->columns)
			return;
		canvas_fill(canvas, row, column, 2, glyphs->kinds[kind],
			    (enum top_style)(STYLE_KINDS + kind));
		column = canvas_text(canvas, row, column + 3, STYLE_PLAIN, "%s", name) + 2;
	}
}

static void draw_totals(struct top_canvas *canvas, int row, const struct columns *at,
			const struct top_model *model, const struct top_look *look)
{
	struct top_vm total;
	char name[TOP_TEXT];

	snprintf(name, sizeof(name), "all %zu", top_model_total(model, &total));
	canvas_left(canvas, row, at->name, at->name_width, '.', STYLE_STRONG, name);
	draw_numbers(canvas, row, at, &total, STYLE_STRONG);
	draw_bar(canvas, row, at->bar, at->bar_width, &total, look);
}

static void draw_list_title(struct top_canvas *canvas, const struct top_model *model,
			    const struct top_look *look)
{
	struct top_vm total;
	char left[128];
	char right[48];
	char memory[16];
	char host[16];
	size_t alive = top_model_total(model, &total);

	snprintf(left, sizeof(left), "ebb top    %zu machine%s    %s of guest memory in %s of RAM",
		 alive, alive == 1 ? "" : "s", draw_size(total.memory_bytes, memory),
		 draw_size(total.host_bytes, host));
	if (look->interactive)
		snprintf(right, sizeof(right), "every %g s", look->interval);
	else
		right[0] = '\0';
	draw_title(canvas, left, right);
}

void draw_list(struct top_canvas *canvas, const struct top_model *model,
	       const struct top_view *view, const struct top_look *look)
{
	static const char *const keys[] = {"e enable", "t trim",    "o out",  "i in",   "d disable",
					   "c cancel", "Enter map", "h help", "q quit", NULL};
	const struct layout layout = lay_out(canvas->rows, look->interactive);
	const struct columns at = divide_columns(canvas->columns);

	if (layout.title >= 0)
		draw_list_title(canvas, model, look);
	if (layout.legend >= 0)
		draw_legend(canvas, layout.legend, look);
	if (layout.head >= 0)
		draw_head(canvas, layout.head, &at);
	for (int i = 0; i < layout.room && view->first + (size_t)i < model->count; i++) {
		const struct top_vm *vm = model->vms[view->first + (size_t)i];

		draw_row(canvas, layout.first + i, &at, vm,
			 look->interactive && !strcmp(vm->name, view->selected), look);
	}
	if (!model->count)
		canvas_text(canvas, layout.first + (layout.room > 2), 2, STYLE_DIM,
			    "no machines are running; start one by `ebb run`");
	if (layout.rule >= 0)
		canvas_fill(canvas, layout.rule, 0, canvas->columns, draw_glyphs(look)->rule,
			    STYLE_DIM);
	if (layout.total >= 0)
		draw_totals(canvas, layout.total, &at, model, look);
	if (layout.last >= 0)
		draw_last_row(canvas, layout.last, model, keys);
}
