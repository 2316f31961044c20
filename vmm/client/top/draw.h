/*
 * Draws `ebb top` on a canvas. Pure: the same model, view and look make the same picture. Every kind
 * of memory has a character of its own, so that nothing is said by colour alone.
 */
#ifndef EBB_VMM_CLIENT_TOP_DRAW_H
#define EBB_VMM_CLIENT_TOP_DRAW_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/client/top/canvas.h"
#include "vmm/client/top/model.h"
#include "vmm/client/top/view.h"

struct top_look {
	bool utf8;        /* block characters; else ASCII */
	bool interactive; /* keys, selection and messages are shown */
	double interval;  /* seconds, for the title */
};

/* How many machines the list shows in @rows rows. */
size_t top_draw_list_room(int rows, const struct top_look *look);

/* How many rows a list of @count machines needs to show all. */
int top_draw_list_rows(size_t count, const struct top_look *look);

/* How many cells of a map there is room for on the screen of one machine. */
size_t top_draw_map_room(int rows, int columns, const struct top_look *look);

void top_draw(struct top_canvas *canvas, const struct top_model *model, const struct top_view *view,
	      const struct top_look *look);

#endif
