#include "vmm/help_json.h"

#include <errno.h>
#include <jansson.h>

#include "vmm/control/commands.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"

static json_t *subcommand_list(void)
{
	json_t *list = json_array();
	const char *name;
	const char *text;

	for (size_t i = 0; (name = help_topic(i, &text)); i++)
		json_array_append_new(list, json_pack("{s:s,s:s}", "name", name, "help", text));
	return list;
}

static json_t *option_list(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < run_option_count; i++) {
		const struct run_option *option = &run_options[i];

		json_array_append_new(
			list, json_pack("{s:s,s:s?,s:s,s:b,s:b}", "name", option->name, "argument",
					option->argument, "help", option->help, "repeats",
					option->repeats, "in_file", options_in_file(option)));
	}
	return list;
}

static json_t *command_list(void)
{
	json_t *list = json_array();

	for (size_t i = 0; i < command_count; i++) {
		const struct command *command = &commands[i];

		json_array_append_new(
			list, json_pack("{s:s,s:s,s:s,s:s,s:b}", "name", command->name, "arguments",
					commands_arguments(command), "help", command->help,
					"choices", command->choices ? command->choices : "",
					"takes_file", command->takes_file));
	}
	return list;
}

int help_json_print(FILE *out)
{
	json_t *root = json_pack("{s:s,s:s,s:o,s:o,s:o}", "version", EBB_VERSION, "summary",
				 help_summary(), "subcommands", subcommand_list(), "run_options",
				 option_list(), "commands", command_list());
	int result = root ? json_dumpf(root, out, JSON_INDENT(1)) : -1;

	json_decref(root);
	if (result)
		return -ENOMEM;
	fputc('\n', out);
	return 0;
}
