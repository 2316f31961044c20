#include "vmm/options/json_places.h"

#include <stdbool.h>
#include <string.h>

struct scan {
	const char *at;
	const char *end;
};

static void skip_blanks(struct scan *scan)
{
	while (scan->at < scan->end && strchr(" \t\r\n", *scan->at) && *scan->at)
		scan->at++;
}

/* Behind the closing quote; what a backslash is followed by is no quote. */
static void skip_string(struct scan *scan)
{
	scan->at++;
	while (scan->at < scan->end && *scan->at != '"')
		scan->at += *scan->at == '\\' ? 2 : 1;
	scan->at++;
}

/* Up to the comma or bracket that ends the value here, whatever is nested in it. */
static void skip_value(struct scan *scan)
{
	size_t depth = 0;

	while (scan->at < scan->end) {
		char c = *scan->at;

		if (c == '"') {
			skip_string(scan);
			continue;
		}
		if (!depth && (c == ',' || c == ']' || c == '}'))
			return;
		if (c == '[' || c == '{')
			depth++;
		else if (c == ']' || c == '}')
			depth--;
		scan->at++;
	}
}

/* From the bracket before, or the comma behind, an element to the next one; false if none is left. */
static bool enter_next(struct scan *scan)
{
	if (scan->at >= scan->end || (*scan->at != ',' && *scan->at != '{' && *scan->at != '['))
		return false;
	scan->at++;
	skip_blanks(scan);
	return scan->at < scan->end && *scan->at != ']' && *scan->at != '}';
}

/* At the value of member @member; its key begins at *key. */
static bool find_member(struct scan *scan, size_t member, const char **key)
{
	skip_blanks(scan);
	for (size_t i = 0; enter_next(scan); i++) {
		*key = scan->at;
		skip_string(scan);
		skip_blanks(scan);
		scan->at++; /* the colon */
		skip_blanks(scan);
		if (i == member)
			return true;
		skip_value(scan);
	}
	return false;
}

static bool find_element(struct scan *scan, size_t element)
{
	for (size_t i = 0; enter_next(scan); i++) {
		if (i == element)
			return true;
		skip_value(scan);
	}
	return false;
}

static struct json_place place_of(const char *text, const char *at)
{
	struct json_place place = {.line = 1, .column = 1};

	for (; text < at; text++) {
		place.column++;
		if (*text == '\n') {
			place.line++;
			place.column = 1;
		}
	}
	return place;
}

struct json_place json_place_find(const char *text, size_t length, size_t member, size_t element)
{
	struct scan scan = {.at = text, .end = text + length};
	const char *key = text;
	const char *value;

	if (!find_member(&scan, member, &key))
		return (struct json_place){.line = 1, .column = 1};
	if (element == JSON_PLACE_KEY)
		return place_of(text, key);
	value = scan.at;
	if (element != JSON_PLACE_VALUE && find_element(&scan, element))
		value = scan.at;
	return place_of(text, value);
}
