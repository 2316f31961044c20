#define NCURSES_WIDECHAR 1
#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <wchar.h>

#include "vmm/base/checked.h"
#include "vmm/client/top/screen.h"
#include "vmm/client/top/view.h"

/* How long an escape may be the beginning of a key's sequence. */
#define ESCAPE_MS 25

#define NONE (-1) /* the terminal's own colour */

struct paint {
	attr_t attributes; /* with colours */
	attr_t mono;       /* without */
	short few[2];      /* of 8 colours: foreground, background */
	short many[2];     /* of 256 */
};

static const struct paint paints[STYLE_COUNT] = {
	[STYLE_PLAIN] = {A_NORMAL, A_NORMAL, {NONE, NONE}, {NONE, NONE}},
	[STYLE_TITLE] = {A_BOLD, A_REVERSE, {COLOR_WHITE, COLOR_BLUE}, {231, 24}},
	[STYLE_HEAD] = {A_BOLD, A_BOLD, {COLOR_CYAN, NONE}, {117, NONE}},
	[STYLE_DIM] = {A_NORMAL, A_NORMAL, {NONE, NONE}, {245, NONE}},
	[STYLE_STRONG] = {A_BOLD, A_BOLD, {NONE, NONE}, {NONE, NONE}},
	[STYLE_CURSOR] = {A_BOLD, A_REVERSE, {COLOR_BLACK, COLOR_CYAN}, {231, 31}},
	[STYLE_KEY] = {A_BOLD, A_BOLD, {COLOR_CYAN, NONE}, {117, NONE}},
	[STYLE_GOOD] = {A_BOLD, A_BOLD, {COLOR_GREEN, NONE}, {114, NONE}},
	[STYLE_BAD] = {A_BOLD, A_BOLD, {COLOR_RED, NONE}, {203, NONE}},
	[STYLE_KINDS + TOP_RESIDENT] = {A_NORMAL, A_NORMAL, {COLOR_CYAN, NONE}, {45, NONE}},
	[STYLE_KINDS + TOP_STAGED] = {A_NORMAL, A_NORMAL, {COLOR_YELLOW, NONE}, {220, NONE}},
	[STYLE_KINDS + TOP_POOL] = {A_NORMAL, A_NORMAL, {COLOR_MAGENTA, NONE}, {177, NONE}},
	[STYLE_KINDS + TOP_DISK] = {A_NORMAL, A_NORMAL, {COLOR_BLUE, NONE}, {69, NONE}},
	[STYLE_KINDS + TOP_BALLOON] = {A_NORMAL, A_NORMAL, {COLOR_GREEN, NONE}, {114, NONE}},
	[STYLE_KINDS + TOP_ZERO] = {A_NORMAL, A_NORMAL, {NONE, NONE}, {241, NONE}},
};

static SCREEN *screen;
static bool colours;

static void make_pairs(void)
{
	colours = has_colors() && start_color() != ERR && use_default_colors() != ERR &&
		  COLORS >= 8 && COLOR_PAIRS > STYLE_COUNT;
	for (int style = 0; colours && style < STYLE_COUNT; style++) {
		const short *pair = COLORS >= 256 ? paints[style].many : paints[style].few;

		init_pair((short)(style + 1), pair[0], pair[1]);
	}
}

int top_screen_open(struct error *err)
{
	const char *type = getenv("TERM");

	/* initscr() would end the program. */
	screen = newterm(NULL, stdout, stdin);
	if (!screen)
		return error_say(err, ENOTSUP,
				 "the terminal type \"%.40s\" is not known here; set TERM, or use "
				 "--once",
				 type ? type : "");
	set_term(screen);
	set_escdelay(ESCAPE_MS);
	cbreak();
	noecho();
	nonl();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	make_pairs();
	return 0;
}

void top_screen_close(void)
{
	if (!screen)
		return;
	endwin();
	delscreen(screen);
	screen = NULL;
}

void top_screen_size(int *rows, int *columns)
{
	getmaxyx(stdscr, *rows, *columns);
	if (*rows < 1)
		*rows = 1;
	if (*columns < 1)
		*columns = 1;
}

static void show_cell(int row, int column, const struct top_cell *cell)
{
	const struct paint *paint = &paints[cell->style];
	const wchar_t text[2] = {(wchar_t)cell->glyph, L'\0'};
	cchar_t shown;

	if (setcchar(&shown, text, colours ? paint->attributes : paint->mono,
		     (short)(colours ? cell->style + 1 : 0), NULL) != ERR)
		mvadd_wch(row, column, &shown); /* ERR in the last cell: it is shown all the same */
}

void top_screen_show(const struct top_canvas *canvas)
{
	erase();
	for (int row = 0; row < canvas->rows; row++)
		for (int column = 0; column < canvas->columns; column++)
			show_cell(row, column, canvas_at(canvas, row, column));
	move(0, 0);
	refresh();
}

int top_screen_key(void)
{
	static const struct {
		int code;
		int key;
	} keys[] = {
		{KEY_UP, TOP_KEY_LINE_UP},      {KEY_DOWN, TOP_KEY_LINE_DOWN},
		{KEY_PPAGE, TOP_KEY_PAGE_BACK}, {KEY_NPAGE, TOP_KEY_PAGE_NEXT},
		{KEY_HOME, TOP_KEY_FIRST},      {KEY_END, TOP_KEY_LAST},
		{KEY_ENTER, TOP_KEY_OPEN},      {KEY_RIGHT, TOP_KEY_OPEN},
		{KEY_LEFT, TOP_KEY_CLOSE},      {KEY_BACKSPACE, TOP_KEY_CLOSE},
		{033, TOP_KEY_CLOSE},
	};
	int code = getch();

	if (code == ERR)
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (keys[i].code == code)
			return keys[i].key;
	}
	return code < 0x80 ? code : TOP_KEY_OTHER; /* KEY_RESIZE is one of the others */
}
