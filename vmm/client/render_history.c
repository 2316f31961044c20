#include "vmm/client/render_internal.h"

#include <inttypes.h>

#include "vmm/base/size.h"

#define ROWS_MAX 24u

static uint64_t worst_p99(const json_t *faults)
{
	const char *kind;
	const json_t *entry;
	uint64_t worst = 0;

	json_object_foreach((json_t *)faults, kind, entry)
	{
		uint64_t p99 = render_number(entry, "p99_ns");

		worst = p99 > worst ? p99 : worst;
	}
	return worst;
}

static uint64_t count_faults(const json_t *faults)
{
	const char *kind;
	const json_t *entry;
	uint64_t sum = 0;

	json_object_foreach((json_t *)faults, kind, entry) sum += render_number(entry, "count");
	return sum;
}

static void render_sample(FILE *out, const json_t *sample)
{
	const json_t *bytes = json_object_get(sample, "bytes");
	const json_t *faults = json_object_get(sample, "faults");
	uint64_t resident = render_number(bytes, "resident"),
		 staged = render_number(bytes, "staged");
	uint64_t p99 = worst_p99(faults);
	char end[48], in_memory[24], cold[24], away[24], latency[48];

	fprintf(out, "  %12s %10s %10s %10s %10" PRIu64 " %10s\n",
		render_format_duration(render_number(sample, "end_ns"), end, sizeof(end)),
		size_format(resident, in_memory, sizeof(in_memory)),
		size_format(staged, cold, sizeof(cold)),
		size_format(render_number(bytes, "pool") + render_number(bytes, "disk"), away,
			    sizeof(away)),
		count_faults(faults),
		p99 ? render_format_duration(p99, latency, sizeof(latency)) : "-");
}

void render_history(FILE *out, const json_t *history)
{
	const json_t *samples = json_object_get(history, "samples");
	size_t count = json_array_size(samples);

	fprintf(out, "  %12s %10s %10s %10s %10s %10s\n", "until", "resident", "staged", "swapped",
		"faults", "p99");
	for (size_t i = count > ROWS_MAX ? count - ROWS_MAX : 0; i < count; i++)
		render_sample(out, json_array_get(samples, i));
	if (count > ROWS_MAX)
		fprintf(out, "  (the last %u of %zu; `ebb report` shows all)\n", ROWS_MAX, count);
}
