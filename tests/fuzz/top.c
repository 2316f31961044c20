/*
 * `ebb top`: machines that answer anything, drawn on a terminal of any size, while keys are pressed.
 * What is drawn lies on the screen and is printable.
 *
 * An input is four bytes, keys up to a NUL, and the answers as the lines that come over a socket.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "vmm/client/top/draw.h"
#include "vmm/client/top/link.h"
#include "vmm/client/top/model.h"
#include "vmm/client/top/view.h"

#define KEYS_MAX 8

static void check_cells(const struct top_canvas *canvas)
{
	for (int i = 0; i < canvas->rows * canvas->columns; i++)
		if (canvas->cells[i].glyph < ' ' || canvas->cells[i].glyph == 0x7f ||
		    canvas->cells[i].style >= STYLE_COUNT)
			abort();
}

static void draw(const struct top_model *model, const struct top_view *view, int rows, int columns,
		 bool utf8)
{
	const struct top_look look = {.utf8 = utf8, .interactive = true, .interval = 1.0};
	static FILE *null;
	struct top_canvas *canvas;

	if (!null)
		null = fopen("/dev/null", "w");
	if (canvas_create(rows, columns, &canvas))
		abort();
	top_draw(canvas, model, view, &look);
	check_cells(canvas);
	canvas_print(canvas, null);
	canvas_destroy(canvas);
}

/* An answer: the members that it has say what to. */
static void take(struct top_model *model, const json_t *answer, uint64_t now_ns)
{
	const char *name = json_string_value(json_object_get(answer, "name"));
	const json_t *status = json_object_get(answer, "status");
	const json_t *map = json_object_get(answer, "map");
	struct top_vm *vm = top_model_add(model, name ? name : "web");

	if (!vm)
		abort();
	if (json_is_true(json_object_get(answer, "gone"))) {
		top_model_remove(model, vm);
		return;
	}
	vm->health = TOP_ALIVE;
	if (status)
		top_vm_take(vm, status, json_object_get(answer, "swap"), now_ns);
	if (map)
		top_map_take(&model->map, vm->name, map);
	if (name)
		top_model_say(model, now_ns, true, "%s: ended", name);
}

static void read_answers(struct top_model *model, struct fuzz_input *input)
{
	struct top_link link = {.fd = -1};
	uint64_t now_ns = 1;
	json_t *answer;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
		abort();
	link.fd = fds[0];
	send(fds[1], input->data, input->left, MSG_NOSIGNAL);
	close(fds[1]);
	while (!top_link_read(&link)) {
		while (top_link_next(&link, &answer)) {
			if (answer)
				take(model, answer, now_ns);
			json_decref(answer);
			now_ns += 500000000;
		}
	}
	top_link_close(&link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	uint8_t rows = fuzz_u8(&input) % 64, columns = fuzz_u8(&input) % 160,
		flags = fuzz_u8(&input);
	uint8_t keys[KEYS_MAX];
	size_t count = 0;
	struct top_model model = {0};
	struct top_view view = {0};
	const struct top_look look = {.interactive = true, .interval = 1.0};
	size_t room = top_draw_list_room(rows, &look);

	while (fuzz_more(&input) && count < KEYS_MAX && (keys[count] = fuzz_u8(&input)))
		count++;
	read_answers(&model, &input);
	top_view_settle(&view, &model, room);
	draw(&model, &view, rows, columns, flags & 1);
	for (size_t i = 0; i < count; i++) {
		/* Letters, and the keys that have none. */
		int key = keys[i] < 0x80 ? keys[i] : TOP_KEY_OTHER + keys[i] - 0x80;

		top_view_key(&view, &model, key, room);
		top_view_settle(&view, &model, room);
		draw(&model, &view, rows, columns, flags & 1);
	}
	json_decref(top_model_json(&model));
	top_model_clear(&model);
	return 0;
}
