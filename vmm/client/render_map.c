/* `memory-map` for people. */
#include <inttypes.h>

#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"
#include "vmm/client/top/model.h"

#define CELLS_IN_A_ROW 64u

void render_memory_map(FILE *out, const json_t *result)
{
	static const char letters[TOP_KINDS] = {
		[TOP_RESIDENT] = '#', [TOP_STAGED] = '=',  [TOP_POOL] = '+',
		[TOP_DISK] = ':',     [TOP_BALLOON] = 'o', [TOP_ZERO] = '.',
	};
	struct top_map map = {0};
	char size[32];

	if (!top_map_take(&map, "", result))
		return;
	for (size_t i = 0; i < map.count; i++) {
		if (i % CELLS_IN_A_ROW == 0)
			fprintf(out, "%s0x%09" PRIx64 " ", i ? "\n" : "", top_map_gpa(&map, i));
		putc(letters[top_map_dominant(&map.cells[i])], out);
	}
	fprintf(out,
		"\na cell is %s, shown as what most of it is: # resident  = staged  + pool\n"
		": disk  . zero\n",
		size_format(map.pages_per_cell * map.page_size, size, sizeof(size)));
	top_map_clear(&map);
}
