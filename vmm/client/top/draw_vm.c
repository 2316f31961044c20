/* One machine and the map of its memory. */
#include <inttypes.h>
#include <string.h>

#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"
#include "vmm/client/top/draw_internal.h"

#define LABEL_WIDTH  12 /* an address and a blank */
#define LEGEND_WIDTH 26

/* Which row is what; -1: there is no room for it. */
struct layout {
	int title;
	int bar;
	int legend; /* and the rows behind it */
	int legend_columns;
	int facts;
	int faults;
	int work;
	int rule;
	int map;
	int map_rows;
	int map_column;
	int map_columns;
	int last;
};

static struct layout lay_out(int rows, int columns, bool interactive)
{
	struct layout layout = {.title = -1,
				.bar = -1,
				.legend = -1,
				.facts = -1,
				.faults = -1,
				.work = -1,
				.rule = -1,
				.last = -1};
	int next = 0;
	int end = rows;

	if (rows >= 4)
		layout.title = next++;
	if (rows >= 20)
		next++;
	if (rows >= 3)
		layout.bar = next++;
	layout.legend_columns = columns >= 6 * LEGEND_WIDTH   ? 6
				: columns >= 3 * LEGEND_WIDTH ? 3
							      : 2;
	if (rows >= 16) {
		layout.legend = next;
		next += TOP_KINDS / layout.legend_columns;
	}
	if (rows >= 22)
		next++;
	if (rows >= 12)
		layout.facts = next++;
	if (rows >= 18)
		layout.faults = next++;
	if (rows >= 8)
		layout.work = next++;
	if (rows >= 10)
		layout.rule = next++;
	if (interactive && rows >= 5)
		layout.last = --end;
	layout.map = next;
	layout.map_rows = end > next ? end - next : 0;
	layout.map_column = columns >= 40 ? 1 + LABEL_WIDTH : 0;
	layout.map_columns = columns - layout.map_column - (columns >= 40);
	return layout;
}

size_t top_draw_map_room(int rows, int columns, const struct top_look *look)
{
	const struct layout layout = lay_out(rows, columns, look->interactive);

	return (size_t)layout.map_rows * (size_t)layout.map_columns;
}

static void draw_legend(struct top_canvas *canvas, const struct layout *layout,
			const struct top_vm *vm, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);

	for (int kind = 0; kind < TOP_KINDS; kind++) {
		int row = layout->legend + kind / layout->legend_columns;
		int column = 1 + kind % layout->legend_columns * LEGEND_WIDTH;
		char size[16];

		canvas_fill(canvas, row, column, 2, glyphs->kinds[kind],
			    (enum top_style)(STYLE_KINDS + kind));
		canvas_text(canvas, row, column + 3, STYLE_PLAIN, "%-9s", top_kind_name(kind));
		canvas_right(canvas, row, column + 12, 5, STYLE_STRONG,
			     draw_size(vm->kinds[kind], size));
		canvas_text(canvas, row, column + 18, STYLE_DIM, "%3u %%",
			    draw_percent(vm->kinds[kind], vm->memory_bytes));
	}
}

static void draw_facts(struct top_canvas *canvas, int row, const struct top_vm *vm)
{
	char host[16], memory[16], disk[16], share[16], uptime[48];

	canvas_text(canvas, row, 1, STYLE_PLAIN,
		    "RAM %s of %s    disk %s    CPU %s of %u vCPU%s    up %s",
		    draw_size(vm->host_bytes, host), draw_size(vm->memory_bytes, memory),
		    draw_size(vm->disk_bytes, disk), draw_share(vm->cpu_share, share), vm->vcpus,
		    vm->vcpus == 1 ? "" : "s",
		    render_format_duration(vm->uptime_ns, uptime, sizeof(uptime)));
}

static void draw_faults(struct top_canvas *canvas, int row, const struct top_vm *vm)
{
	static const char *const names[SWAP_FAULT_KINDS] = {"zero", "staged", "pool", "disk"};
	char count[16], median[16], slow[16];
	int seen = 0;
	int column = canvas_text(canvas, row, 1, STYLE_PLAIN, "faults %s/s",
				 draw_count(vm->faults_per_s, count));

	for (int kind = 0; kind < SWAP_FAULT_KINDS; kind++) {
		const struct top_latency *latency = &vm->latency[kind];

		if (!latency->count)
			continue;
		if (!seen++)
			column = canvas_text(canvas, row, column + 3, STYLE_DIM, "p50/p99");
		column = canvas_text(canvas, row, column + 2, STYLE_PLAIN, "%s ", names[kind]);
		column = canvas_text(canvas, row, column, STYLE_STRONG, "%s/%s",
				     draw_time(latency->p50_ns, median),
				     draw_time(latency->p99_ns, slow));
	}
}

static void draw_work(struct top_canvas *canvas, int row, const struct top_vm *vm,
		      const struct top_look *look)
{
	const struct top_operation *operation = &vm->operation;
	uint64_t left = top_operation_left_ns(operation);
	char rate[16], time[48];
	int column;

	if (vm->reason[0] && !operation->running) {
		canvas_text(canvas, row, 1, STYLE_BAD, "%s", vm->reason);
		return;
	}
	if (!operation->running) {
		if (operation->command[0])
			canvas_text(
				canvas, row, 1, STYLE_DIM, "%s: %s %u%% after %s",
				operation->command, operation->failed ? "stopped at" : "done,",
				draw_percent(operation->pages_done, operation->pages_total),
				render_format_duration(operation->duration_ns, time, sizeof(time)));
		return;
	}
	column = canvas_text(canvas, row, 1, STYLE_STRONG, "%s ", operation->command);
	draw_progress(canvas, row, column, canvas->columns / 3, operation->pages_done,
		      operation->pages_total, look);
	column = canvas_text(canvas, row, column + canvas->columns / 3 + 1, STYLE_STRONG, "%3u %%",
			     draw_percent(operation->pages_done, operation->pages_total));
	column = canvas_text(canvas, row, column + 2, STYLE_DIM, "%s/s",
			     draw_size(operation->rate, rate));
	if (left != UINT64_MAX)
		canvas_text(canvas, row, column + 2, STYLE_DIM, "%s left",
			    render_format_duration(left, time, sizeof(time)));
}

/* @each cells of the map as one. */
static struct top_map_cell merge(const struct top_map *map, size_t first, size_t each)
{
	struct top_map_cell sum = {0};

	for (size_t i = first; i < first + each && i < map->count; i++)
		for (int kind = 0; kind < TOP_KINDS; kind++)
			sum.pages[kind] += map->cells[i].pages[kind];
	return sum;
}

static void draw_map(struct top_canvas *canvas, const struct layout *layout,
		     const struct top_map *map, size_t each, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	size_t next = 0;

	for (int row = 0; row < layout->map_rows && next < map->count; row++) {
		if (layout->map_column)
			canvas_text(canvas, layout->map + row, 1, STYLE_DIM, "0x%09" PRIx64,
				    top_map_gpa(map, next));
		for (int column = 0; column < layout->map_columns && next < map->count; column++) {
			struct top_map_cell cell = merge(map, next, each);
			enum top_kind kind = top_map_dominant(&cell);

			canvas_put(canvas, layout->map + row, layout->map_column + column,
				   glyphs->kinds[kind], (enum top_style)(STYLE_KINDS + kind));
			next += each;
		}
	}
}

static void draw_rule(struct top_canvas *canvas, int row, const struct top_map *map, size_t each,
		      const struct top_look *look)
{
	uint64_t bytes = map->pages_per_cell * map->page_size * each;
	char size[32];

	canvas_fill(canvas, row, 0, canvas->columns, draw_glyphs(look)->rule, STYLE_DIM);
	if (bytes)
		canvas_text(canvas, row, 3, STYLE_STRONG,
			    " guest memory: a cell is %s, shown as what most of it is ",
			    size_format(bytes, size, sizeof(size)));
}

static void draw_machine_title(struct top_canvas *canvas, const char *name, const struct top_vm *vm)
{
	char left[192];
	int length = snprintf(left, sizeof(left), "ebb top    %s    ", name);

	if (!vm)
		snprintf(left + length, sizeof(left) - (size_t)length, "not running");
	else if (vm->health == TOP_GONE)
		snprintf(left + length, sizeof(left) - (size_t)length, "ended");
	else if (vm->health == TOP_SILENT)
		snprintf(left + length, sizeof(left) - (size_t)length, "does not answer");
	else
		snprintf(left + length, sizeof(left) - (size_t)length, "%s, swap %s", vm->state,
			 vm->swap_available ? vm->swap_state : "not available");
	draw_title(canvas, left, "q back  h help");
}

static void draw_known(struct top_canvas *canvas, const struct layout *layout,
		       const struct top_vm *vm, const struct top_map *map,
		       const struct top_look *look)
{
	size_t room = (size_t)layout->map_rows * (size_t)layout->map_columns;
	size_t each = room ? (map->count + room - 1) / room : 0;

	if (layout->bar >= 0)
		draw_bar(canvas, layout->bar, 1, canvas->columns - 2, vm, look);
	if (layout->legend >= 0)
		draw_legend(canvas, layout, vm, look);
	if (layout->facts >= 0)
		draw_facts(canvas, layout->facts, vm);
	if (layout->faults >= 0)
		draw_faults(canvas, layout->faults, vm);
	if (layout->work >= 0)
		draw_work(canvas, layout->work, vm, look);
	if (layout->rule >= 0)
		draw_rule(canvas, layout->rule, map, each, look);
	if (each && !strcmp(map->name, vm->name))
		draw_map(canvas, layout, map, each, look);
}

void draw_machine(struct top_canvas *canvas, const struct top_model *model,
		  const struct top_view *view, const struct top_look *look)
{
	static const char *const keys[] = {"e enable",  "t trim",   "o out",  "i in",
					   "d disable", "c cancel", "j next", "k previous",
					   "q back",    NULL};
	const struct top_vm *vm = top_model_find(model, view->selected);
	const struct layout layout = lay_out(canvas->rows, canvas->columns, look->interactive);

	if (layout.title >= 0)
		draw_machine_title(canvas, view->selected, vm);
	if (vm)
		draw_known(canvas, &layout, vm, &model->map, look);
	if (layout.last >= 0)
		draw_last_row(canvas, layout.last, model, keys);
}
