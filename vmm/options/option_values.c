#include "vmm/options/option_values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/checked.h"

#define NAME_LENGTH_MAX 32 /* of what is looked at to find a similar name */

int option_values_add(struct option_values *values, const struct option_value *value)
{
	struct option_value *items = calloc(values->count + 1, sizeof(*items));
	char *text = strdup(value->text);

	if (!items || !text) {
		free(items);
		free(text);
		return -ENOMEM;
	}
	if (values->count)
		memcpy(items, values->items, values->count * sizeof(*items));
	items[values->count] = *value;
	items[values->count].text = text;
	free(values->items);
	values->items = items;
	values->count++;
	return 0;
}

void option_values_clear(struct option_values *values)
{
	for (size_t i = 0; i < values->count; i++)
		free(values->items[i].text);
	free(values->items);
	*values = (struct option_values){0};
}

const struct run_option *option_find(const char *name)
{
	for (size_t i = 0; i < run_option_count; i++) {
		if (!strcmp(run_options[i].name, name))
			return &run_options[i];
	}
	return NULL;
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/*
 * How many insertions, deletions, replacements and swaps of neighbours make @b of @a (optimal
 * string alignment).
 */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t rows[3][NAME_LENGTH_MAX + 1]; /* of i-2, i-1 and i, in turn */

	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t *row = rows[i % 3];
		const size_t *above = rows[(i - 1) % 3];

		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			bool same = a[i - 1] == b[j - 1];

			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + !same);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], rows[(i - 2) % 3][j - 2] + 1);
		}
	}
	return rows[a_length % 3][b_length];
}

const struct run_option *option_nearest(const char *name, size_t length, bool in_file)
{
	const struct run_option *nearest = NULL;
	size_t least_distance = (size_t)-1;

	if (!length || length > NAME_LENGTH_MAX)
		return NULL;
	for (size_t i = 0; i < run_option_count; i++) {
		const char *known = run_options[i].name;
		size_t known_length = least(strlen(known), NAME_LENGTH_MAX);
		size_t steps = distance(name, length, known, known_length);

		if (in_file && !options_in_file(&run_options[i]))
			continue;
		/* Half of the letters wrong is no likeness any more. */
		if (steps * 2 > length && steps * 2 > known_length)
			continue;
		if (steps < least_distance) {
			least_distance = steps;
			nearest = &run_options[i];
		}
	}
	return nearest;
}

static bool is_word(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Whether @word stands in @text between other characters than letters. */
static bool has_word(const char *text, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at++) {
		if ((at == text || !is_word(at[-1])) && !is_word(at[length]))
			return true;
	}
	return false;
}

bool option_takes_number(const struct run_option *option)
{
	static const char *const numbers[] = {"N", "SIZE", "PORT", "CID", "SECONDS"};

	for (size_t i = 0; option->argument && i < ARRAY_SIZE(numbers); i++) {
		if (has_word(option->argument, numbers[i]))
			return true;
	}
	return false;
}

bool option_takes_switch(const struct run_option *option)
{
	return !option->argument ||
	       (has_word(option->argument, "on") && has_word(option->argument, "off"));
}

/* Whether another value of the same option in @values, behind @i, makes this one void. */
static bool is_overridden(const struct option_values *values, size_t i)
{
	for (size_t j = i + 1; j < values->count && !values->items[i].option->repeats; j++) {
		if (values->items[j].option == values->items[i].option)
			return true;
	}
	return false;
}

static int append(struct option_values *values, const struct option_values *more)
{
	int result = 0;

	for (size_t i = 0; i < more->count && !result; i++)
		result = option_values_add(values, &more->items[i]);
	return result;
}

int option_values_merge(const struct option_values *file, const struct option_values *line,
			struct option_values *merged)
{
	int result = append(merged, file);
	size_t kept = 0;

	if (!result)
		result = append(merged, line);
	if (result) {
		option_values_clear(merged);
		return result;
	}
	for (size_t i = 0; i < merged->count; i++) {
		if (is_overridden(merged, i))
			free(merged->items[i].text);
		else
			merged->items[kept++] = merged->items[i];
	}
	merged->count = kept;
	return 0;
}

/* The next value of @option from *i on; NULL at the end. */
static const char *next_text(const struct option_values *values, const struct run_option *option,
			     size_t *i)
{
	while (*i < values->count) {
		const struct option_value *value = &values->items[(*i)++];

		if (value->option == option)
			return value->text;
	}
	return NULL;
}

bool option_values_same(const struct option_values *a, const struct option_values *b,
			const struct run_option *option)
{
	size_t i = 0;
	size_t j = 0;

	for (;;) {
		const char *text_a = next_text(a, option, &i);
		const char *text_b = next_text(b, option, &j);

		if (!text_a || !text_b)
			return text_a == text_b;
		if (strcmp(text_a, text_b) != 0)
			return false;
	}
}
