#include <string.h>

#include "vmm/base/size.h"
#include "vmm/client/render_internal.h"

#define BAR_MAX 30u

/* Everything but the bar, with and without rate and time left. */
#define PLAIN_COLUMNS 19u
#define RATE_COLUMNS  54u

static const char *label_of(const json_t *progress)
{
	const char *command = render_text(progress, "command");

	if (!strncmp(command, "swap ", 5))
		return command + 5;
	return *command ? command : render_text(progress, "operation");
}

/* "  118.3 MiB/s  12 s left", in columns that do not move. */
static void append_pace(char *line, size_t length, const json_t *progress)
{
	uint64_t eta_ns;
	char rate[32];
	char left[48] = "";

	size_format(render_number(progress, "rate_bytes_per_s"), rate, sizeof(rate));
	if (render_get_number(progress, "eta_ns", &eta_ns))
		render_format_duration(eta_ns, left, sizeof(left));
	snprintf(line, length, " %10.10s/s %10.10s %-4s", rate, left, *left ? "left" : "");
}

void render_progress(FILE *out, const json_t *progress, unsigned columns)
{
	uint64_t done = render_number(progress, "pages_done");
	uint64_t total = render_number(progress, "pages_total");
	bool wide = columns >= RATE_COLUMNS + 10;
	unsigned fixed = wide ? RATE_COLUMNS : PLAIN_COLUMNS;
	unsigned width = columns > fixed ? columns - fixed : 0;
	char line[BAR_MAX + RATE_COLUMNS + 16];
	double share;
	int used;

	if (width > BAR_MAX)
		width = BAR_MAX;
	share = total ? (double)done / (double)total : 0.0;
	if (share > 1.0)
		share = 1.0;
	used = snprintf(line, sizeof(line), wide ? "%-15.15s [" : "%-8.8s [", label_of(progress));
	for (unsigned i = 0; i < width; i++)
		line[used++] = i < (unsigned)(share * width) ? '#' : '.';
	used += snprintf(line + used, sizeof(line) - (size_t)used, "] %3u %%",
			 (unsigned)(share * 100.0));
	if (wide)
		append_pace(line + used, sizeof(line) - (size_t)used, progress);
	fprintf(out, "\r%s", line);
	fflush(out);
}

void render_progress_end(FILE *out)
{
	fputs("\r\033[K", out);
	fflush(out);
}
