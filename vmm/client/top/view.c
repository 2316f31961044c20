#include "vmm/client/top/view.h"

#include <stdio.h>
#include <string.h>

#include "vmm/base/checked.h"

static const struct {
	char key;
	const char *command;
} orders[] = {
	{'e', "swap enable"}, {'t', "swap trim"},    {'o', "swap out"},
	{'i', "swap in"},     {'d', "swap disable"}, {'c', "swap cancel"},
};

void top_view_settle(struct top_view *view, const struct top_model *model, size_t rows)
{
	if (!model->count) {
		view->place = view->first = 0;
		if (view->screen == SCREEN_LIST)
			view->selected[0] = '\0';
		return;
	}
	for (size_t i = 0; i < model->count; i++) {
		if (!strcmp(model->vms[i]->name, view->selected)) {
			view->place = i;
			goto scroll;
		}
	}
	/* It is gone: whoever took its place is selected, but not under the user's eyes. */
	if (view->screen != SCREEN_LIST)
		return;
	if (view->place >= model->count)
		view->place = model->count - 1;
	snprintf(view->selected, sizeof(view->selected), "%s", model->vms[view->place]->name);

scroll:
	if (rows < 1)
		rows = 1;
	if (view->place < view->first)
		view->first = view->place;
	if (view->place >= view->first + rows)
		view->first = view->place - rows + 1;
	if (view->first + rows > model->count)
		view->first = model->count > rows ? model->count - rows : 0;
}

static void move(struct top_view *view, const struct top_model *model, long by)
{
	long place = (long)view->place + by;

	if (!model->count)
		return;
	if (place < 0)
		place = 0;
	if (place >= (long)model->count)
		place = (long)model->count - 1;
	view->place = (size_t)place;
	snprintf(view->selected, sizeof(view->selected), "%s", model->vms[place]->name);
}

static void go_back(struct top_view *view)
{
	if (view->screen == SCREEN_HELP)
		view->screen = view->behind_help;
	else
		view->screen = SCREEN_LIST;
}

/* Keys that look at something else. False: it is none of them. */
static bool look(struct top_view *view, const struct top_model *model, int key, long page)
{
	switch (key) {
	case TOP_KEY_LINE_UP:
	case 'k':
		move(view, model, -1);
		return true;
	case TOP_KEY_LINE_DOWN:
	case 'j':
		move(view, model, 1);
		return true;
	case TOP_KEY_PAGE_BACK:
		move(view, model, -page);
		return true;
	case TOP_KEY_PAGE_NEXT:
		move(view, model, page);
		return true;
	case TOP_KEY_FIRST:
	case 'g':
		move(view, model, -(long)model->count);
		return true;
	case TOP_KEY_LAST:
	case 'G':
		move(view, model, (long)model->count);
		return true;
	case TOP_KEY_OPEN:
	case '\r':
	case '\n':
		if (view->screen == SCREEN_LIST && model->count)
			view->screen = SCREEN_MACHINE;
		return true;
	default:
		return false;
	}
}

const char *top_view_key(struct top_view *view, const struct top_model *model, int key, size_t rows)
{
	if (key == 'q' && view->screen == SCREEN_LIST) {
		view->quit = true;
		return NULL;
	}
	if (key == 'Q' || key == 3) { /* Ctrl-C, where the terminal passes it on */
		view->quit = true;
		return NULL;
	}
	if (view->screen == SCREEN_HELP) { /* any key */
		go_back(view);
		return NULL;
	}
	if (key == 'h' || key == '?') {
		view->behind_help = view->screen;
		view->screen = SCREEN_HELP;
		return NULL;
	}
	if (key == 'q' || key == TOP_KEY_CLOSE) {
		go_back(view);
		return NULL;
	}
	if (look(view, model, key, rows > 1 ? (long)rows : 1))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		if (orders[i].key == key && top_model_find(model, view->selected))
			return orders[i].command;
	}
	return NULL;
}
