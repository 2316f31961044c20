/* The pictures of `ebb top`, and what keys do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/base/clock.h"
#include "vmm/base/size.h"
#include "vmm/client/top/draw.h"

static struct top_model model;
static struct top_view view;
static const struct top_look blocks = {.utf8 = true, .interactive = true, .interval = 1.0};
static const struct top_look ascii = {.interactive = true, .interval = 1.0};
static char *picture;

static struct top_vm *add(const char *name)
{
	struct top_vm *vm = top_model_add(&model, name);

	assert_non_null(vm);
	vm->health = TOP_ALIVE;
	vm->vcpus = 1;
	vm->memory_bytes = 600 * MIB;
	vm->host_bytes = 300 * MIB;
	strcpy(vm->state, "running");
	strcpy(vm->swap_state, "staged");
	for (int kind = 0; kind < TOP_KINDS; kind++)
		vm->kinds[kind] = 100 * MIB;
	return vm;
}

static int setup(void **state)
{
	(void)state;
	memset(&view, 0, sizeof(view));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	top_model_clear(&model);
	free(picture);
	picture = NULL;
	return 0;
}

/* What is seen, as text. Asserts that every cell shows something printable. */
static const char *draw(int rows, int columns, const struct top_look *look)
{
	struct top_canvas *canvas;
	size_t length;
	FILE *out;

	top_view_settle(&view, &model, top_draw_list_room(rows, look));
	assert_int_equal(canvas_create(rows, columns, &canvas), 0);
	top_draw(canvas, &model, &view, look);
	for (int row = 0; row < rows; row++) {
		for (int column = 0; column < columns; column++) {
			const struct top_cell *cell = canvas_at(canvas, row, column);

			assert_true(cell->glyph >= ' ' && cell->glyph != 0x7f);
			assert_true(cell->style < STYLE_COUNT);
			assert_true(look->utf8 || cell->glyph < 0x7f);
		}
	}
	free(picture);
	out = open_memstream(&picture, &length);
	assert_non_null(out);
	canvas_print(canvas, out);
	fclose(out);
	canvas_destroy(canvas);
	return picture;
}

static void assert_shows(const char *text)
{
	if (!strstr(picture, text))
		fail_msg("no \"%s\" in:\n%s", text, picture);
}

static void assert_hides(const char *text)
{
	if (strstr(picture, text))
		fail_msg("\"%s\" in:\n%s", text, picture);
}

static void press(int key)
{
	top_view_key(&view, &model, key, 10);
}

static void take_map(const char *name)
{
	json_t *resident = json_array();
	json_t *disk = json_array();
	json_t *answer;

	for (int i = 0; i < 1000; i++) {
		json_array_append_new(resident, json_integer(i < 500 ? 2 : 0));
		json_array_append_new(disk, json_integer(i < 500 ? 0 : 2));
	}
	answer = json_pack("{s:i,s:i,s:o,s:o}", "page_size_bytes", 4096, "pages_per_cell", 2,
			   "resident", resident, "disk", disk);
	assert_true(top_map_take(&model.map, name, answer));
	json_decref(answer);
}

static void the_list_has_a_row_for_each_machine_and_totals(void **state)
{
	(void)state;
	add("dev")->faults_per_s = 1234.0;
	add("ci")->p99_ns = 127 * NS_PER_US;
	model.vms[0]->cpu_share = 0.42;
	draw(24, 80, &ascii);
	assert_shows("2 machines    1.2G of guest memory in 600M of RAM");
	assert_shows("NAME         STATE        SIZE   RAM  MEMORY");
	assert_shows(
		"> ci           staged       600M  300M  ####====++++:::ooo...     0 127us   42%");
	assert_shows(
		"  dev          staged       600M  300M  ####====++++:::ooo...  1.2k     -    0%");
	assert_shows(
		"  all 2                     1.2G  600M  ####====++++:::ooo...  1.2k 127us   42%");
	assert_shows("## resident  == staged  ++ pool  :: disk  oo balloon  .. zero");
	assert_shows("q quit");
}

static void every_kind_has_a_character_of_its_own(void **state)
{
	(void)state;
	add("dev");
	draw(24, 80, &blocks);
	assert_shows("████▓▓▓▓▒▒▒▒░░░○○○···");
}

static void what_is_there_at_all_is_seen_in_the_bar(void **state)
{
	struct top_vm *vm = add("dev");

	(void)state;
	memset(vm->kinds, 0, sizeof(vm->kinds));
	vm->kinds[TOP_STAGED] = 4096;
	vm->kinds[TOP_DISK] = vm->memory_bytes - 4096;
	draw(24, 80, &ascii);
	assert_shows("  =::::::::::::::::::::  ");
}

static void a_running_operation_is_the_state(void **state)
{
	struct top_vm *vm = add("dev");

	(void)state;
	vm->operation = (struct top_operation){
		.running = true, .command = "swap disable", .pages_done = 1, .pages_total = 3};
	draw(24, 80, &ascii);
	assert_shows("disable 33%");
}

static void trouble_is_named(void **state)
{
	(void)state;
	add("a")->health = TOP_SILENT;
	add("b")->health = TOP_GONE;
	add("c")->health = TOP_NEW;
	strcpy(add("d")->state, "paused");
	draw(24, 80, &ascii);
	assert_shows("a            no answer");
	assert_shows("b            ended\n");
	assert_shows("c            ...\n");
	assert_shows("d            paused");
	assert_shows("all 3");
}

static void no_machines_say_how_to_start_one(void **state)
{
	(void)state;
	draw(24, 80, &ascii);
	assert_shows("no machines are running; start one by `ebb run`");
	press('o');
	press(TOP_KEY_OPEN);
	assert_int_equal(view.screen, SCREEN_LIST);
}

static void a_hundred_machines_scroll(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%03d", i);
		add(name);
	}
	draw(24, 80, &ascii);
	assert_shows("> vm-000");
	assert_hides("vm-030");
	for (int i = 0; i < 30; i++)
		press('j');
	draw(24, 80, &ascii);
	assert_shows("> vm-030");
	assert_hides("vm-000");
	press('G');
	draw(24, 80, &ascii);
	assert_shows("> vm-099");
	assert_shows("all 100");
	press(TOP_KEY_PAGE_BACK);
	draw(24, 80, &ascii);
	assert_shows("> vm-089");
	press('g');
	draw(24, 80, &ascii);
	assert_shows("> vm-000");
}

static void the_selection_outlives_the_selected_machine(void **state)
{
	(void)state;
	add("a");
	add("b");
	add("c");
	draw(24, 80, &ascii);
	press('j');
	top_model_remove(&model, top_model_find(&model, "b"));
	draw(24, 80, &ascii);
	assert_shows("> c");
	top_model_remove(&model, top_model_find(&model, "c"));
	draw(24, 80, &ascii);
	assert_shows("> a");
}

static void a_machine_is_shown_with_the_map_of_its_memory(void **state)
{
	struct top_vm *vm = add("dev");

	(void)state;
	vm->swap_available = true;
	vm->operation = (struct top_operation){.running = true,
					       .command = "swap out",
					       .pages_done = 42,
					       .pages_total = 100,
					       .duration_ns = 42 * NS_PER_SEC,
					       .rate = 118 * MIB};
	vm->latency[SWAP_FAULT_STAGED] = (struct top_latency){9, 4000, 12000};
	take_map("dev");
	draw(24, 80, &ascii);
	press(TOP_KEY_OPEN);
	draw(24, 80, &ascii);
	assert_shows("dev    running, swap staged");
	assert_shows("## resident  100M  16 %");
	assert_shows("swap out [##########..............]  42 %  118M/s  58 s left");
	assert_shows("staged 4.0us/12us");
	assert_shows("a cell is 16.0 KiB");
	assert_shows(" 0x000000000 ####");
	assert_shows("####::::");
	press('q');
	assert_int_equal(view.screen, SCREEN_LIST);
	assert_false(view.quit);
}

static void a_map_of_another_machine_is_not_shown(void **state)
{
	(void)state;
	add("dev");
	take_map("web");
	draw(24, 80, &ascii);
	press('\r');
	draw(24, 80, &ascii);
	assert_hides("0x000000000");
}

static void a_machine_that_ended_is_said_to_have(void **state)
{
	(void)state;
	add("dev");
	draw(24, 80, &ascii);
	press(TOP_KEY_OPEN);
	model.vms[0]->health = TOP_GONE;
	draw(24, 80, &ascii);
	assert_shows("dev    ended");
	top_model_remove(&model, model.vms[0]);
	draw(24, 80, &ascii);
	assert_shows("dev    not running");
	press('q');
	draw(24, 80, &ascii);
	assert_shows("no machines");
}

static void a_long_message_takes_more_rows(void **state)
{
	(void)state;
	add("dev");
	top_model_say(&model, 1, true, "dev: swap out: %s\x1b",
		      "not in state \"disabled\": `swap "
		      "enable` stages guest memory first, and then there is something to write");
	draw(24, 80, &ascii);
	assert_shows(
		"\n dev: swap out: not in state \"disabled\": `swap enable` stages guest memory\n");
	assert_shows("\n first, and then there is something to write?\n");
	assert_hides("q quit");
}

static void every_size_of_terminal_shows_what_fits(void **state)
{
	static const int sides[] = {1,  2,  3,  4,  5,  7,  9,   12,  16,
				    20, 24, 30, 40, 60, 80, 100, 130, 200};
	static const struct top_look *const looks[] = {&blocks, &ascii};
	const size_t count = sizeof(sides) / sizeof(sides[0]);

	(void)state;
	for (int i = 0; i < 9; i++) {
		char name[VM_NAME_MAX + 1] = "";

		memset(name, 'a' + i, VM_NAME_MAX);
		add(name)->operation = (struct top_operation){
			.running = i % 2, .command = "swap in --working-set", .pages_total = 100};
	}
	take_map(model.vms[0]->name);
	for (int screen = SCREEN_LIST; screen <= SCREEN_HELP; screen++) {
		for (size_t i = 0; i < count * count * 2; i++) {
			view.screen = (enum top_screen)screen;
			if (i % 50 == 0)
				top_model_say(&model, 1, false, "done");
			else if (i % 50 == 25)
				model.message[0] = '\0';
			draw(sides[i / 2 / count], sides[i / 2 % count], looks[i % 2]);
		}
	}
	view.screen = SCREEN_LIST;
	draw(60, 200, &ascii);
	assert_shows("DISK FLT/S   P99   CPU");
}

static void keys_are_commands_for_the_selected_machine(void **state)
{
	static const struct {
		int key;
		const char *command;
	} cases[] = {
		{'e', "swap enable"}, {'t', "swap trim"},    {'o', "swap out"},
		{'i', "swap in"},     {'d', "swap disable"}, {'c', "swap cancel"},
	};

	(void)state;
	assert_null(top_view_key(&view, &model, 'o', 10));
	add("dev");
	draw(24, 80, &ascii);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(top_view_key(&view, &model, cases[i].key, 10),
				    cases[i].command);
	assert_null(top_view_key(&view, &model, 'x', 10));
	assert_null(top_view_key(&view, &model, TOP_KEY_OTHER, 10));
	press('h');
	assert_null(top_view_key(&view, &model, 'o', 10)); /* any key closes the help */
	assert_int_equal(view.screen, SCREEN_LIST);
	press('q');
	assert_true(view.quit);
}

static void help_tells_the_keys_and_the_kinds(void **state)
{
	(void)state;
	press('h');
	draw(24, 80, &ascii);
	assert_shows("o               swap out: what stayed cold leaves RAM");
	assert_shows("::  disk        compressed, on disk");
	assert_shows("CPU is of one processor");
}

static void printing_has_neither_keys_nor_a_selection(void **state)
{
	const struct top_look printed = {.interval = 1.0};

	(void)state;
	add("dev");
	draw(top_draw_list_rows(1, &printed), 80, &printed);
	assert_hides("q quit");
	assert_hides(">");
	assert_shows("  dev ");
	assert_shows("  all 1 ");
}

#define with_model(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_model(the_list_has_a_row_for_each_machine_and_totals),
		with_model(every_kind_has_a_character_of_its_own),
		with_model(what_is_there_at_all_is_seen_in_the_bar),
		with_model(a_running_operation_is_the_state),
		with_model(trouble_is_named),
		with_model(no_machines_say_how_to_start_one),
		with_model(a_hundred_machines_scroll),
		with_model(the_selection_outlives_the_selected_machine),
		with_model(a_machine_is_shown_with_the_map_of_its_memory),
		with_model(a_map_of_another_machine_is_not_shown),
		with_model(a_machine_that_ended_is_said_to_have),
		with_model(a_long_message_takes_more_rows),
		with_model(every_size_of_terminal_shows_what_fits),
		with_model(keys_are_commands_for_the_selected_machine),
		with_model(help_tells_the_keys_and_the_kinds),
		with_model(printing_has_neither_keys_nor_a_selection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
