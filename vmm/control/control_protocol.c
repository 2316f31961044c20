#include "vmm/control/control_protocol.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const code_names[CONTROL_CODE_COUNT] = {
	[CONTROL_OK] = "ok",
	[CONTROL_INVALID_REQUEST] = "invalid_request",
	[CONTROL_UNKNOWN_COMMAND] = "unknown_command",
	[CONTROL_INVALID_ARGUMENT] = "invalid_argument",
	[CONTROL_WRONG_STATE] = "wrong_state",
	[CONTROL_BUSY] = "busy",
	[CONTROL_UNSUPPORTED] = "unsupported",
	[CONTROL_CANCELLED] = "cancelled",
	[CONTROL_NO_SPACE] = "no_space",
	[CONTROL_QUITTING] = "quitting",
	[CONTROL_FAILED] = "failed",
};

const char *control_code_name(enum control_code code)
{
	return code_names[code];
}

enum control_code control_code_by_name(const char *name)
{
	for (int code = CONTROL_INVALID_REQUEST; code < CONTROL_CODE_COUNT; code++) {
		if (!strcmp(code_names[code], name))
			return (enum control_code)code;
	}
	return CONTROL_FAILED;
}

enum control_code control_code_from_errno(int result)
{
	switch (-result) {
	case 0:
		return CONTROL_OK;
	case EINVAL:
		return CONTROL_WRONG_STATE;
	case ERANGE:
		return CONTROL_INVALID_ARGUMENT;
	case EBUSY:
		return CONTROL_BUSY;
	case ENOTSUP:
	case ENODEV:
		return CONTROL_UNSUPPORTED;
	case ECANCELED:
		return CONTROL_CANCELLED;
	case ENOSPC:
	case EDQUOT:
		return CONTROL_NO_SPACE;
	default:
		return CONTROL_FAILED;
	}
}

/* Whether brackets nest no deeper than allowed; what else is wrong the parser finds. */
static bool depth_is_allowed(const char *line, size_t length)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < length; i++) {
		char c = line[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > CONTROL_DEPTH_MAX)
				return false;
		} else if ((c == ']' || c == '}') && depth) {
			depth--;
		}
	}
	return true;
}

static int parse_arguments(const json_t *arguments, struct control_request *request,
			   struct error *err)
{
	size_t count = json_array_size(arguments);

	if (!json_is_array(arguments))
		return error_say(err, EINVAL, "\"arguments\" is not an array of strings");
	if (count > CONTROL_ARGUMENTS_MAX)
		return error_say(err, EINVAL, "more than %u arguments", CONTROL_ARGUMENTS_MAX);
	for (size_t i = 0; i < count; i++) {
		request->arguments[i] = json_string_value(json_array_get(arguments, i));
		if (!request->arguments[i])
			return error_say(err, EINVAL, "\"arguments\" is not an array of strings");
	}
	request->argument_count = count;
	return 0;
}

static int parse_members(json_t *json, struct control_request *request, struct error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(json))
		return error_say(err, EINVAL, "a request is an object: {\"command\":\"status\"}");
	json_object_foreach(json, key, value)
	{
		if (!strcmp(key, "command")) {
			request->command = json_string_value(value);
			if (!request->command)
				return error_say(err, EINVAL, "\"command\" is not a string");
		} else if (!strcmp(key, "arguments")) {
			int result = parse_arguments(value, request, err);

			if (result)
				return result;
		} else {
			return error_say(err, EINVAL,
					 "unknown member \"%.40s\"; there are \"command\" and "
					 "\"arguments\"",
					 key);
		}
	}
	if (!request->command)
		return error_say(err, EINVAL, "\"command\" is missing");
	return 0;
}

enum control_code control_request_parse(const char *line, size_t length,
					struct control_request *request, struct error *err)
{
	struct control_request parsed = {0};
	json_error_t reason;

	if (length >= CONTROL_REQUEST_MAX) {
		error_say(err, EINVAL, "a request has at most %u bytes", CONTROL_REQUEST_MAX);
		return CONTROL_INVALID_REQUEST;
	}
	if (!depth_is_allowed(line, length)) {
		error_say(err, EINVAL, "brackets are nested deeper than %u", CONTROL_DEPTH_MAX);
		return CONTROL_INVALID_REQUEST;
	}
	parsed.json = json_loadb(line, length, JSON_REJECT_DUPLICATES, &reason);
	if (!parsed.json && !reason.text[0]) { /* jansson has no words for it */
		error_errno(err, ENOMEM, "the request");
		return CONTROL_FAILED;
	}
	if (!parsed.json) {
		error_say(err, EINVAL, "no JSON: %s at byte %d", reason.text, reason.position);
		return CONTROL_INVALID_REQUEST;
	}
	if (parse_members(parsed.json, &parsed, err)) {
		control_request_clear(&parsed);
		return CONTROL_INVALID_REQUEST;
	}
	*request = parsed;
	return CONTROL_OK;
}

void control_request_clear(struct control_request *request)
{
	json_decref(request->json);
	*request = (struct control_request){0};
}

/* C0, DEL, and C1 as UTF-8 has it. 0: none of them stands there, else its length. */
static size_t control_character(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;

	if (c[0] < 0x20 || c[0] == 0x7f)
		return 1;
	return c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f ? 2 : 0;
}

static bool is_plain(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (control_character(text + i))
			return false;
	}
	return true;
}

static void make_string_plain(json_t *string)
{
	size_t length = json_string_length(string), used = 0;
	const char *text = json_string_value(string);
	char *plain;

	if (is_plain(text, length))
		return;
	plain = malloc(length);
	for (size_t i = 0; plain && i < length; used++) {
		size_t bad = control_character(text + i);

		plain[used] = '?';
		if (!bad)
			plain[used] = text[i];
		i += bad ? bad : 1;
	}
	json_string_setn(string, plain ? plain : "?", plain ? used : 1);
	free(plain);
}

/* NOLINTNEXTLINE(misc-no-recursion): no deeper than what jansson parses, 2048 levels */
static void make_plain(json_t *value)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_string(value))
		make_string_plain(value);
	json_array_foreach(value, i, member) make_plain(member);
	json_object_foreach(value, key, member) make_plain(member);
}

json_t *control_answer_parse(const char *line, const char **kind, const json_t **body)
{
	json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

	make_plain(json);
	*kind = json_object_iter_key(json_object_iter(json));
	*body = *kind ? json_object_get(json, *kind) : NULL;
	if (json_is_object(*body))
		return json;
	json_decref(json);
	return NULL;
}

enum control_code control_answer_error(const json_t *body, struct error *err)
{
	const char *name = json_string_value(json_object_get(body, "code"));
	const char *message = json_string_value(json_object_get(body, "message"));

	error_say(err, EPROTO, "%s", message ? message : "refused without a reason");
	return control_code_by_name(name ? name : "");
}

json_t *control_json_string(const char *text)
{
	json_t *string = json_string(text);
	char *ascii;

	if (string)
		return string;
	ascii = strdup(text);
	if (!ascii)
		return NULL;
	for (char *c = ascii; *c; c++) {
		if (*c & 0x80)
			*c = '?';
	}
	string = json_string(ascii);
	free(ascii);
	return string;
}

/* Takes the reference to @json. */
static char *format(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	char *line = NULL;

	if (text) {
		size_t length = strlen(text);

		line = realloc(text, length + 2);
		if (line)
			memcpy(line + length, "\n", 2);
		else
			free(text);
	}
	json_decref(json);
	return line;
}

char *control_format_line(const char *kind, json_t *body)
{
	return body ? format(json_pack("{s:o}", kind, body)) : NULL;
}

char *control_format_error(enum control_code code, const char *message)
{
	json_t *text = control_json_string(message);

	if (!text)
		return NULL;
	return format(json_pack("{s:{s:s,s:o}}", "error", "code", control_code_name(code),
				"message", text));
}

char *control_format_request(const char *command, const char *const *arguments, size_t count)
{
	json_t *json = json_pack("{s:o}", "command", control_json_string(command));
	json_t *list;

	if (!json || !count)
		return format(json);
	list = json_array();
	for (size_t i = 0; i < count; i++) {
		if (json_array_append_new(list, control_json_string(arguments[i])))
			goto fail;
	}
	if (json_object_set_new(json, "arguments", list)) {
		json_decref(json);
		return NULL;
	}
	return format(json);

fail:
	json_decref(list);
	json_decref(json);
	return NULL;
}
