#include "vmm/client/top/top.h"

#include <getopt.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm/base/clock.h"
#include "vmm/client/top/draw.h"
#include "vmm/client/top/poll.h"
#include "vmm/client/top/screen.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"

/* Between two pictures, so that many answers make one. */
#define FRAME_NS (50 * NS_PER_MS)

/* While an operation runs, machines are asked at least this often. */
#define BUSY_INTERVAL_NS (250 * NS_PER_MS)

#define MESSAGE_NS (6 * NS_PER_SEC)

/* A terminal that is always readable and never has a key is gone. */
#define EMPTY_READS_MAX 100

#define PRINT_COLUMNS  80
#define PRINT_MAP_ROWS 40

struct top {
	struct top_model model;
	struct top_poll *poll;
	struct top_view view;
	struct top_look look;
	uint64_t interval_ns;
	bool once;
	bool json;
	const char *name; /* NULL: the list */
	int empty_reads;
};

static volatile sig_atomic_t told_to_end;

static void on_end(int number)
{
	(void)number;
	told_to_end = 1;
}

/* ---- on a terminal ---- */

static bool is_busy(const struct top_model *model)
{
	for (size_t i = 0; i < model->count; i++) {
		if (model->vms[i]->operation.running)
			return true;
	}
	return false;
}

static void take_keys(struct top *top, size_t rows)
{
	int key = top_screen_key();

	top->empty_reads = key < 0 ? top->empty_reads + 1 : 0;
	for (; key >= 0; key = top_screen_key()) {
		const char *command = top_view_key(&top->view, &top->model, key, rows);

		if (command)
			top_poll_order(top->poll, top->view.selected, command);
	}
	if (top->empty_reads > EMPTY_READS_MAX)
		top->view.quit = true;
}

static int show(struct top *top)
{
	struct top_canvas *canvas;
	int rows, columns;
	int result;

	top_screen_size(&rows, &columns);
	top_view_settle(&top->view, &top->model, top_draw_list_room(rows, &top->look));
	if (top->view.screen == SCREEN_LIST)
		top_poll_watch(top->poll, NULL, 0);
	else
		top_poll_watch(top->poll, top->view.selected,
			       top_draw_map_room(rows, columns, &top->look));
	result = canvas_create(rows, columns, &canvas);
	if (result)
		return result;
	top_draw(canvas, &top->model, &top->view, &top->look);
	top_screen_show(canvas);
	canvas_destroy(canvas);
	return 0;
}

/* Asks if it is time to. Returns when it will be again. */
static uint64_t ask_in_time(struct top *top, uint64_t next_ns, uint64_t now_ns)
{
	struct error error;
	uint64_t wait = top->interval_ns;

	if (now_ns < next_ns)
		return next_ns;
	if (top_poll_ask(top->poll, now_ns, &error))
		top_model_say(&top->model, now_ns, true, "%s", error.text);
	if (wait > BUSY_INTERVAL_NS && is_busy(&top->model))
		wait = BUSY_INTERVAL_NS;
	return now_ns + wait;
}

static int watch(struct top *top)
{
	uint64_t next_ask = 0;
	uint64_t next_frame = 0;

	while (!top->view.quit && !told_to_end) {
		uint64_t now = clock_monotonic_ns();
		uint64_t until;
		int rows, columns;

		next_ask = ask_in_time(top, next_ask, now);
		if (top->model.message[0] && now - top->model.message_ns >= MESSAGE_NS)
			top->model.message[0] = '\0';
		if (now >= next_frame) {
			int result = show(top);

			if (result)
				return result;
			next_frame = UINT64_MAX;
		}
		until = next_ask < next_frame ? next_ask : next_frame;
		top_screen_size(&rows, &columns);
		if (top_poll_wait(top->poll, STDIN_FILENO,
				  until > now ? (int)((until - now) / NS_PER_MS) + 1 : 0)) {
			take_keys(top, top_draw_list_room(rows, &top->look));
			next_frame = 0;
		} else if (next_frame == UINT64_MAX) {
			next_frame = clock_monotonic_ns() + FRAME_NS;
		}
	}
	return 0;
}

static int run_screen(struct top *top)
{
	struct sigaction action = {.sa_handler = on_end};
	struct error error;
	int result;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	result = top_screen_open(&error);
	if (result) {
		fprintf(stderr, "ebb top: %s\n", error.text);
		return 1;
	}
	top->look.interactive = true;
	if (top->name)
		top->view.screen = SCREEN_MACHINE;
	result = watch(top);
	top_screen_close();
	if (result)
		fprintf(stderr, "ebb top: %s\n", strerror(-result));
	return result ? 1 : 0;
}

/* ---- without one ---- */

static int ask_and_wait(struct top *top)
{
	struct error error;

	if (top_poll_ask(top->poll, clock_monotonic_ns(), &error)) {
		fprintf(stderr, "ebb top: %s\n", error.text);
		return 1;
	}
	while (!top_poll_is_settled(top->poll))
		top_poll_wait(top->poll, -1, 100);
	return 0;
}

/* Rates take two answers. */
static int collect(struct top *top)
{
	uint64_t end;

	if (ask_and_wait(top))
		return 1;
	if (top->name && !top_model_find(&top->model, top->name)) {
		fprintf(stderr,
			"ebb top: no machine named \"%s\" runs here; `ebb ls` lists those "
			"that do\n",
			top->name);
		return 1;
	}
	if (!top->model.count)
		return 0;
	end = clock_monotonic_ns() + top->interval_ns;
	for (uint64_t now; (now = clock_monotonic_ns()) < end;)
		top_poll_wait(top->poll, -1, (int)((end - now) / NS_PER_MS) + 1);
	return ask_and_wait(top);
}

static int print_columns(void)
{
	struct winsize size;
	const char *columns = getenv("COLUMNS");
	long number = columns ? strtol(columns, NULL, 10) : 0;

	if (number > 0 && number <= INT_MAX)
		return (int)number;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	return PRINT_COLUMNS;
}

static int print_text(struct top *top, int columns)
{
	int rows = top->name ? PRINT_MAP_ROWS : top_draw_list_rows(top->model.count, &top->look);
	struct top_canvas *canvas;

	if (canvas_create(rows, columns, &canvas))
		return 1;
	if (top->name)
		top->view.screen = SCREEN_MACHINE;
	top_draw(canvas, &top->model, &top->view, &top->look);
	canvas_print(canvas, stdout);
	canvas_destroy(canvas);
	return 0;
}

static int print_json(struct top *top)
{
	json_t *object = top_model_json(&top->model);

	if (!object)
		return 1;
	json_dumpf(object, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(object);
	return 0;
}

static int run_once(struct top *top)
{
	int columns = print_columns();

	if (top->name)
		top_poll_watch(top->poll, top->name,
			       top_draw_map_room(PRINT_MAP_ROWS, columns, &top->look));
	if (collect(top))
		return 1;
	return top->json ? print_json(top) : print_text(top, columns);
}

/* ---- the program ---- */

static int say_usage(const char *what)
{
	fprintf(stderr, "ebb top: %s; see `ebb help top`\n", what);
	return 2;
}

static bool parse_interval(struct top *top, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end || !(seconds >= 0.1 && seconds <= 3600.0))
		return false;
	top->look.interval = seconds;
	top->interval_ns = (uint64_t)(seconds * (double)NS_PER_SEC);
	return true;
}

/* -1: go on; else the exit status. */
static int parse(struct top *top, int argc, char **argv)
{
	static const struct option long_options[] = {
		{"once", no_argument, NULL, '1'},
		{"json", no_argument, NULL, 'j'},
		{"interval", required_argument, NULL, 'i'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct error error;
	int option;

	optind = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (option) {
		case '1':
			top->once = true;
			break;
		case 'j':
			top->once = top->json = true;
			break;
		case 'i':
			if (!parse_interval(top, optarg))
				return say_usage("--interval takes 0.1 to 3600 seconds");
			break;
		case 'h':
			help_print(stdout, "top");
			return 0;
		default:
			return say_usage("unknown option, or its argument is missing");
		}
	}
	if (argc - optind > 1)
		return say_usage("too many arguments");
	if (optind < argc) {
		top->name = argv[optind];
		if (options_check_name(top->name, &error)) {
			fprintf(stderr, "ebb top: %s\n", error.text);
			return 2;
		}
		snprintf(top->view.selected, sizeof(top->view.selected), "%s", top->name);
	}
	return -1;
}

int top_main(int argc, char **argv)
{
	struct top top = {.look.interval = 1.0, .interval_ns = NS_PER_SEC};
	int status = parse(&top, argc, argv);

	if (status >= 0)
		return status;
	/* Not LC_NUMERIC: columns are laid out for a point. */
	top.look.utf8 = setlocale(LC_CTYPE, "") && !strcmp(nl_langinfo(CODESET), "UTF-8");
	if (top_poll_create(&top.model, &top.poll)) {
		fprintf(stderr, "ebb top: out of memory\n");
		return 1;
	}
	if (top.once || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		status = run_once(&top);
	else
		status = run_screen(&top);
	top_poll_destroy(top.poll);
	top_model_clear(&top.model);
	return status;
}
