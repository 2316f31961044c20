/*
 * `ebb run --config FILE`: options from a JSON object, and options as such an object.
 *
 * A key is the name of an option without its dashes; what options there are, run_options says. The
 * value is a string, as on the command line; a whole number where the option takes one; true or
 * false for on or off, and for options without an argument; an array of these for an option that may
 * be repeated. Paths are those of the command line: relative to the current directory. The file is a
 * regular file of at most CONFIG_FILE_MAX bytes.
 *
 * Errors begin with FILE:LINE:COLUMN where there is such a place, are one line, and have no control
 * characters, whatever the file has.
 */
#ifndef EBB_VMM_OPTIONS_CONFIG_FILE_H
#define EBB_VMM_OPTIONS_CONFIG_FILE_H

#include "vmm/base/error.h"
#include "vmm/options/option_values.h"

#define CONFIG_FILE_MAX      (1u << 20)
#define CONFIG_FILE_LIST_MAX 256u /* elements of an array */

/* Fills in the empty list @values, which the caller clears. 0, or -errno with @values empty. */
int config_file_read(const char *path, struct option_values *values, struct error *err);

/* The same for @length bytes at @text, which a NUL follows; @path is for messages. */
int config_file_parse(const char *path, const char *text, size_t length,
		      struct option_values *values, struct error *err);

/* Puts "FILE:LINE:COLUMN: " before the message in @err, for a value that was refused. */
void config_file_locate(const char *path, const struct option_value *value, struct error *err);

/*
 * @values (merged: no option twice that does not repeat) as JSON that config_file_parse() takes, to
 * be freed; *text ends with a newline. 0, -EINVAL (what JSON cannot say), -ENOMEM.
 */
int config_file_format(const struct option_values *values, char **text, struct error *err);

#endif
