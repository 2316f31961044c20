#include "vmm/client/render_internal.h"

#include <inttypes.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/size.h"

bool render_get_number(const json_t *object, const char *key, uint64_t *number)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*number = (uint64_t)json_integer_value(value);
	return true;
}

uint64_t render_number(const json_t *object, const char *key)
{
	uint64_t number = 0;

	render_get_number(object, key, &number);
	return number;
}

const char *render_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

void render_row(FILE *out, const char *label, const char *value)
{
	fprintf(out, "  %-20s %s\n", label, value);
}

void render_size(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t bytes;
	char text[32];

	if (render_get_number(object, key, &bytes))
		render_row(out, label, size_format(bytes, text, sizeof(text)));
}

void render_count(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t count;

	if (render_get_number(object, key, &count))
		fprintf(out, "  %-20s %" PRIu64 "\n", label, count);
}

char *render_format_duration(uint64_t ns, char *text, size_t length)
{
	uint64_t seconds = ns / NS_PER_SEC;
	uint64_t minutes = seconds / 60;

	if (ns < 10 * NS_PER_US)
		snprintf(text, length, "%.1f us", (double)ns / (double)NS_PER_US);
	else if (ns < NS_PER_MS)
		snprintf(text, length, "%u us", (unsigned)(ns / NS_PER_US));
	else if (ns < NS_PER_SEC)
		snprintf(text, length, "%.1f ms", (double)ns / (double)NS_PER_MS);
	else if (seconds < 10)
		snprintf(text, length, "%.1f s", (double)ns / (double)NS_PER_SEC);
	else if (seconds < 120)
		snprintf(text, length, "%u s", (unsigned)seconds);
	else if (seconds < 7200)
		snprintf(text, length, "%u min", (unsigned)minutes);
	else
		snprintf(text, length, "%u h %u min", (unsigned)(minutes / 60),
			 (unsigned)(minutes % 60));
	return text;
}

void render_duration(FILE *out, const char *label, const json_t *object, const char *key)
{
	uint64_t ns;
	char text[48];

	if (render_get_number(object, key, &ns) && ns)
		render_row(out, label, render_format_duration(ns, text, sizeof(text)));
}

void render_page_count(FILE *out, const char *label, const json_t *object, const char *key,
		       uint64_t page_size)
{
	uint64_t pages;
	char text[32];

	if (render_get_number(object, key, &pages))
		fprintf(out, "  %-20s %12" PRIu64 "  %10s\n", label, pages,
			size_format(pages * page_size, text, sizeof(text)));
}

void render_pages(FILE *out, const char *label, const json_t *object, const char *key)
{
	render_page_count(out, label, object, key, render_number(object, "page_size_bytes"));
}

bool render_get_real(const json_t *object, const char *key, double *number)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_number(value))
		return false;
	*number = json_number_value(value);
	return true;
}

void render_wrapped(FILE *out, unsigned indent, const char *text)
{
	unsigned column = indent;

	fprintf(out, "%*s", (int)indent, "");
	while (*text) {
		unsigned length = (unsigned)strcspn(text, " ");

		if (column > indent && column + 1 + length > RENDER_COLUMNS) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			putc(' ', out);
			column++;
		}
		fwrite(text, 1, length, out);
		column += length;
		text += length;
		text += strspn(text, " ");
	}
	putc('\n', out);
}
