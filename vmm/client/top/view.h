/*
 * What the user of `ebb top` looks at, and what keys do to it. Pure: no terminal, no sockets.
 */
#ifndef EBB_VMM_CLIENT_TOP_VIEW_H
#define EBB_VMM_CLIENT_TOP_VIEW_H

#include <stdbool.h>

#include "vmm/client/top/model.h"

enum top_screen {
	SCREEN_LIST,
	SCREEN_MACHINE, /* the selected one, with its map */
	SCREEN_HELP,
};

enum top_key {
	TOP_KEY_OTHER = 0x100, /* below: characters */
	TOP_KEY_LINE_UP,
	TOP_KEY_LINE_DOWN,
	TOP_KEY_PAGE_BACK,
	TOP_KEY_PAGE_NEXT,
	TOP_KEY_FIRST,
	TOP_KEY_LAST,
	TOP_KEY_OPEN,
	TOP_KEY_CLOSE,
};

struct top_view {
	enum top_screen screen;
	enum top_screen behind_help;
	char selected[VM_NAME_MAX + 1]; /* "": nothing yet */
	size_t place;                   /* where it is, or was, in the list */
	size_t first;                   /* the list is shown from here on */
	bool quit;
};

/* After the model changed, or the room: the selection is one of the list and in its @rows. */
void top_view_settle(struct top_view *view, const struct top_model *model, size_t rows);

/*
 * Does what @key (enum top_key or a character) means; @rows: what a page of the list has. Returns
 * the command that it is for the selected machine, e.g. "swap out", or NULL.
 */
const char *top_view_key(struct top_view *view, const struct top_model *model, int key,
			 size_t rows);

#endif
