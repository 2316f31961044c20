/*
 * Where the members of a JSON object stand in its text. A JSON parser tells what is there, and
 * forgets where; messages about a wrong value need it.
 */
#ifndef EBB_VMM_OPTIONS_JSON_PLACES_H
#define EBB_VMM_OPTIONS_JSON_PLACES_H

#include <stddef.h>

struct json_place {
	unsigned line;   /* from 1 */
	unsigned column; /* in bytes, from 1 */
};

#define JSON_PLACE_KEY   ((size_t)-1)
#define JSON_PLACE_VALUE ((size_t)-2)

/*
 * @text is valid JSON, and an object: jansson has taken it. Returns where its member with index
 * @member begins: the key, the value, or the element of that index of the array that is the value.
 * {1, 1} if there is no such thing.
 */
struct json_place json_place_find(const char *text, size_t length, size_t member, size_t element);

#endif
