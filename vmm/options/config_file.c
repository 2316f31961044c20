#include "vmm/options/config_file.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/opener.h"
#include "vmm/options/json_places.h"

/* Greatest whole number that every reader of JSON keeps: 2^53. */
#define NUMBER_DIGITS_MAX 15

/* The text that is being read. */
struct source {
	const char *path;
	const char *text;
	size_t length;
};

/* A message goes to terminals and logs: what the file has must not act there, nor end the line. */
static void clean(struct error *err)
{
	if (!err)
		return;
	for (char *c = err->text; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == '\x7f')
			*c = '?';
	}
}

static void prepend(const char *path, unsigned line, unsigned column, struct error *err)
{
	struct error why;

	if (!err)
		return;
	why = *err;
	snprintf(err->text, sizeof(err->text), "%.200s:%u:%u: %.290s", path, line, column,
		 why.text);
	clean(err);
}

void config_file_locate(const char *path, const struct option_value *value, struct error *err)
{
	prepend(path, value->line, value->column, err);
}

/* Behind error_say(): puts the place before the message. */
static int say_at(const struct source *source, size_t member, size_t element, struct error *err)
{
	struct json_place place = json_place_find(source->text, source->length, member, element);

	prepend(source->path, place.line, place.column, err);
	return -EINVAL;
}

static int say_unknown(const struct source *source, size_t member, const char *key,
		       struct error *err)
{
	const struct run_option *nearest = option_nearest(key, strlen(key), true);

	if (nearest)
		error_say(err, EINVAL, "\"%.80s\": no such option; did you mean \"%s\"?", key,
			  nearest->name);
	else
		error_say(err, EINVAL, "\"%.80s\": no such option; see `ebb help run`", key);
	return say_at(source, member, JSON_PLACE_KEY, err);
}

static const char *kind_of(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a number";
	case JSON_REAL:
		return "a number that is not whole";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		break;
	}
	return "null";
}

static int say_wrong_kind(const struct run_option *option, const json_t *json, struct error *err)
{
	const char *expected = "a string";

	if (!option->argument)
		expected = "true or false";
	else if (option_takes_switch(option))
		expected = "true, false or a string";
	else if (option_takes_number(option))
		expected = "a whole number or a string";
	return error_say(err, EINVAL, "\"%s\" cannot be %s: give %s%s%s%s", option->name,
			 kind_of(json), expected, option->repeats ? ", or an array of such" : "",
			 option->argument ? " as for " : "",
			 option->argument ? option->argument : "");
}

/* One value as the command line has it: 1 with *text, 0 if it stands for "not given", -EINVAL. */
static int value_text(const struct run_option *option, const json_t *json, char number[32],
		      const char **text, struct error *err)
{
	if (json_is_boolean(json) && !option->argument) {
		*text = "";
		return json_is_true(json);
	}
	if (json_is_boolean(json) && option_takes_switch(option)) {
		*text = json_is_true(json) ? "on" : "off";
		return 1;
	}
	if (json_is_integer(json) && option_takes_number(option)) {
		snprintf(number, 32, "%lld", (long long)json_integer_value(json));
		*text = number;
		return 1;
	}
	if (!json_is_string(json) || !option->argument)
		return say_wrong_kind(option, json, err);
	*text = json_string_value(json);
	return 1;
}

static int add_value(const struct source *source, size_t member, size_t element,
		     const struct run_option *option, const json_t *json,
		     struct option_values *values, struct error *err)
{
	struct json_place place;
	struct option_value value = {.option = option};
	const char *text = NULL;
	char number[32];
	int given = value_text(option, json, number, &text, err);

	if (given < 0)
		return say_at(source, member, element, err);
	if (!given)
		return 0;
	place = json_place_find(source->text, source->length, member, element);
	value.text = (char *)text;
	value.line = place.line;
	value.column = place.column;
	if (option_values_add(values, &value))
		return error_errno(err, ENOMEM, "%s", source->path);
	return 0;
}

static int add_member(const struct source *source, size_t member, const char *key,
		      const json_t *json, struct option_values *values, struct error *err)
{
	const struct run_option *option = option_find(key);
	int result = 0;

	if (!option)
		return say_unknown(source, member, key, err);
	if (!options_in_file(option)) {
		error_say(err, EINVAL, "\"%s\" belongs on the command line alone", key);
		return say_at(source, member, JSON_PLACE_KEY, err);
	}
	if (!option->repeats || !json_is_array(json))
		return add_value(source, member, JSON_PLACE_VALUE, option, json, values, err);
	if (json_array_size(json) > CONFIG_FILE_LIST_MAX) {
		error_say(err, EINVAL, "\"%s\" has more than %u elements", key,
			  CONFIG_FILE_LIST_MAX);
		return say_at(source, member, JSON_PLACE_VALUE, err);
	}
	for (size_t i = 0; i < json_array_size(json) && !result; i++)
		result = add_value(source, member, i, option, json_array_get(json, i), values, err);
	return result;
}

static int add_members(const struct source *source, json_t *root, struct option_values *values,
		       struct error *err)
{
	size_t member = 0;
	const char *key;
	json_t *value;

	/* jansson goes through an object in the order of its text. */
	json_object_foreach(root, key, value)
	{
		int result = add_member(source, member++, key, value, values, err);

		if (result) {
			option_values_clear(values);
			return result;
		}
	}
	return 0;
}

static int say_syntax(const struct source *source, const json_error_t *why, struct error *err)
{
	error_say(err, EINVAL, "%s", why->text);
	prepend(source->path, why->line > 0 ? (unsigned)why->line : 1,
		why->column > 0 ? (unsigned)why->column : 1, err);
	return -EINVAL;
}

int config_file_parse(const char *path, const char *text, size_t length,
		      struct option_values *values, struct error *err)
{
	const struct source source = {.path = path, .text = text, .length = length};
	json_error_t why;
	json_t *root;
	int result;

	if (strspn(text, " \t\r\n") >= length)
		return error_say(err, EINVAL,
				 "%.200s: empty; a configuration is a JSON object, at least {}",
				 path);
	root = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (!root)
		return say_syntax(&source, &why, err);
	if (json_is_object(root))
		result = add_members(&source, root, values, err);
	else
		result = error_say(err, EINVAL,
				   "%.200s:1:1: a configuration is a JSON object, {\"OPTION\": "
				   "VALUE, …}, not %s",
				   path, kind_of(root));
	json_decref(root);
	return result;
}

static int say_too_large(const char *path, struct error *err)
{
	return error_say(err, EFBIG,
			 "%.200s: larger than a configuration can be (%u KiB); is it the right "
			 "file?",
			 path, CONFIG_FILE_MAX >> 10);
}

/* A pipe has no end that could be waited for, and could not be read again. */
static int judge(const char *path, const struct stat *info, struct error *err)
{
	if (S_ISDIR(info->st_mode))
		return error_say(err, EISDIR, "%.200s: a directory; give a JSON file", path);
	if (!S_ISREG(info->st_mode))
		return error_say(err, EINVAL,
				 "%.200s: not a regular file; a configuration is read from "
				 "nothing else",
				 path);
	return info->st_size > CONFIG_FILE_MAX ? say_too_large(path, err) : 0;
}

static int open_regular(const char *path, int *fd, struct error *err)
{
	struct stat info;
	int opened = opener_open(path);
	int result;

	if (opened < 0)
		return error_errno(err, -opened, "%.200s: read the configuration", path);
	if (fstat(opened, &info))
		result = error_errno(err, errno, "%.200s: read the configuration", path);
	else
		result = judge(path, &info, err);
	if (result) {
		close(opened);
		return result;
	}
	*fd = opened;
	return 0;
}

/* One byte more than may be there shows a file that grew; @text has room for it and a NUL. */
static int read_text(int fd, const char *path, char *text, size_t *length, struct error *err)
{
	*length = 0;
	for (;;) {
		ssize_t count = read(fd, text + *length, CONFIG_FILE_MAX + 1 - *length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return error_errno(err, errno, "%.200s: read the configuration", path);
		if (!count)
			break;
		*length += (size_t)count;
		if (*length > CONFIG_FILE_MAX)
			return say_too_large(path, err);
	}
	text[*length] = '\0';
	return 0;
}

int config_file_read(const char *path, struct option_values *values, struct error *err)
{
	char *text = malloc(CONFIG_FILE_MAX + 2);
	size_t length;
	int fd = -1;
	int result;

	if (!text)
		return error_errno(err, ENOMEM, "%.200s", path);
	result = open_regular(path, &fd, err);
	if (!result)
		result = read_text(fd, path, text, &length, err);
	if (!result)
		result = config_file_parse(path, text, length, values, err);
	if (fd >= 0)
		close(fd);
	free(text);
	clean(err && result ? err : NULL);
	return result;
}

static bool is_plain_number(const char *text)
{
	size_t length = strlen(text);

	return length && length <= NUMBER_DIGITS_MAX && strspn(text, "0123456789") == length &&
	       (text[0] != '0' || length == 1);
}

/* NULL: out of memory, or not UTF-8. */
static json_t *value_json(const struct option_value *value)
{
	if (!value->option->argument)
		return json_true();
	if (option_takes_switch(value->option) && !strcmp(value->text, "on"))
		return json_true();
	if (option_takes_switch(value->option) && !strcmp(value->text, "off"))
		return json_false();
	if (option_takes_number(value->option) && is_plain_number(value->text))
		return json_integer(strtoll(value->text, NULL, 10));
	return json_string(value->text);
}

static int put_value(json_t *root, const struct option_value *value, struct error *err)
{
	const char *name = value->option->name;
	json_t *json = value_json(value);
	json_t *list = json_object_get(root, name);
	int failed;

	if (!json)
		return error_say(err, EINVAL,
				 "--%s %.80s: not UTF-8, so it cannot be written as JSON", name,
				 value->text);
	if (!value->option->repeats)
		failed = json_object_set_new(root, name, json);
	else if (list)
		failed = json_array_append_new(list, json);
	else
		failed = json_object_set_new(root, name, json_pack("[o]", json));
	return failed ? error_errno(err, ENOMEM, "print the configuration") : 0;
}

int config_file_format(const struct option_values *values, char **text, struct error *err)
{
	json_t *root = json_object();
	char *json = NULL;
	int result = root ? 0 : error_errno(err, ENOMEM, "print the configuration");

	/* In the table's order, whatever order they were given in. */
	for (size_t i = 0; i < run_option_count && !result; i++) {
		for (size_t j = 0; j < values->count && !result; j++) {
			if (values->items[j].option == &run_options[i] &&
			    options_in_file(&run_options[i]))
				result = put_value(root, &values->items[j], err);
		}
	}
	if (!result) {
		json = json_dumps(root, JSON_INDENT(2));
		if (!json || asprintf(text, "%s\n", json) < 0)
			result = error_errno(err, ENOMEM, "print the configuration");
	}
	free(json);
	json_decref(root);
	clean(err && result ? err : NULL);
	return result;
}
