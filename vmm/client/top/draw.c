#include "vmm/client/top/draw_internal.h"

#include "vmm/base/checked.h"

/* Behind a tab: what the key does. */
static const struct {
	const char *key;
	const char *text;
} help[] = {
	{"up, down, j, k", "select a machine; Page Up, Page Down, Home, End too"},
	{"Enter", "the selected machine: the map of its memory"},
	{"e", "swap enable: stage its memory"},
	{"t", "swap trim: drop what is zero or unchanged"},
	{"o", "swap out: what stayed cold leaves RAM"},
	{"i", "swap in: everything back"},
	{"d", "swap disable: everything back, and stop watching"},
	{"c", "swap cancel: stop what is running"},
	{"q", "back, or quit; Q quits at once"},
};

static const char *const kinds_help[TOP_KINDS] = {
	[TOP_RESIDENT] = "in RAM, in use",
	[TOP_STAGED] = "in RAM, not touched since it was staged",
	[TOP_POOL] = "compressed, in RAM",
	[TOP_DISK] = "compressed, on disk",
	[TOP_BALLOON] = "given back by the guest",
	[TOP_ZERO] = "never touched, or of one value: takes no space",
};

static void draw_help(struct top_canvas *canvas, const struct top_look *look)
{
	const struct top_glyphs *glyphs = draw_glyphs(look);
	int row = canvas->rows >= 20 ? 2 : 1;

	draw_title(canvas, "ebb top    help", "any key: back");
	for (size_t i = 0; i < ARRAY_SIZE(help); i++, row++) {
		canvas_text(canvas, row, 2, STYLE_KEY, "%s", help[i].key);
		canvas_text(canvas, row, 18, STYLE_PLAIN, "%s", help[i].text);
	}
	row += canvas->rows >= 20;
	for (int kind = 0; kind < TOP_KINDS; kind++, row++) {
		canvas_fill(canvas, row, 2, 2, glyphs->kinds[kind],
			    (enum top_style)(STYLE_KINDS + kind));
		canvas_text(canvas, row, 6, STYLE_STRONG, "%s", top_kind_name((enum top_kind)kind));
		canvas_text(canvas, row, 18, STYLE_PLAIN, "%s", kinds_help[kind]);
	}
	row += canvas->rows >= 20;
	canvas_text(canvas, row++, 2, STYLE_DIM,
		    "RAM is what the host holds of it, pool included; FLT/S are faults that ebb");
	canvas_text(canvas, row, 2, STYLE_DIM,
		    "answered, P99 of the slowest kind of them; CPU is of one processor.");
}

void top_draw(struct top_canvas *canvas, const struct top_model *model, const struct top_view *view,
	      const struct top_look *look)
{
	switch (view->screen) {
	case SCREEN_LIST:
		draw_list(canvas, model, view, look);
		break;
	case SCREEN_MACHINE:
		draw_machine(canvas, model, view, look);
		break;
	case SCREEN_HELP:
		draw_help(canvas, look);
		break;
	}
}
