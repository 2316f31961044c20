#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"
#include "vmm/client/fleet.h"
#include "vmm/client/swap_all.h"
#include "vmm/options/options.h"

static const struct option long_options[] = {
	{"all", no_argument, NULL, 'a'},        {"json", no_argument, NULL, 'J'},
	{"jobs", required_argument, NULL, 'j'}, {"timeout", required_argument, NULL, 't'},
	{"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
};

static int parse_number(const char *what, const char *text, unsigned max, unsigned *number,
			struct error *err)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || !value || value > max)
		return error_say(err, EINVAL, "%s %.40s: not a number from 1 to %u", what, text,
				 max);
	*number = (unsigned)value;
	return 0;
}

static int check_verb(const char *verb, struct error *err)
{
	static const char *const verbs[] = {"out", "in", "enable", "trim", "disable", "status"};

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i], verb))
			return 0;
	}
	return error_say(err, EINVAL,
			 "\"%.40s\" is no command for many machines; there are out, in, enable, "
			 "trim, disable, status",
			 verb);
}

static int check_names(const struct swap_all_options *options, struct error *err)
{
	if (options->all && options->name_count)
		return error_say(err, EINVAL, "give --all or names, not both");
	if (!options->all && !options->name_count)
		return error_say(err, EINVAL, "give names of machines, or --all");
	if (options->name_count > FLEET_NAMES_MAX)
		return error_say(err, EINVAL, "more than %u names", FLEET_NAMES_MAX);
	for (size_t i = 0; i < options->name_count; i++) {
		int result = options_check_name(options->names[i], err);

		if (result)
			return result;
		for (size_t j = 0; j < i; j++) {
			if (!strcmp(options->names[i], options->names[j]))
				return error_say(err, EINVAL, "machine \"%s\" is named twice",
						 options->names[i]);
		}
	}
	return 0;
}

static int parse_options(int argc, char **argv, struct swap_all_options *options, struct error *err)
{
	unsigned seconds = 0;
	int option;
	int result = 0;

	optind = 0;
	opterr = 0;
	while (!result && (option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		switch (option) {
		case 'a':
			options->all = true;
			break;
		case 'J':
			options->json = true;
			break;
		case 'j':
			result = parse_number("--jobs", optarg, SWAP_ALL_JOBS_MAX, &options->jobs,
					      err);
			break;
		case 't':
			result = parse_number("--timeout", optarg, SWAP_ALL_TIMEOUT_MAX, &seconds,
					      err);
			if (!result)
				options->timeout_ns = seconds * NS_PER_SEC;
			break;
		case 'h':
			options->help = true;
			return 0;
		default:
			return error_say(err, EINVAL, "unknown option, or its argument is missing");
		}
	}
	return result;
}

int swap_all_options_parse(int argc, char **argv, struct swap_all_options *options,
			   struct error *err)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int result;

	*options = (struct swap_all_options){
		.jobs = cpus > 2 ? (unsigned)cpus : 2,
		.timeout_ns = SWAP_ALL_TIMEOUT_SECONDS * NS_PER_SEC,
	};
	result = parse_options(argc, argv, options, err);
	if (result || options->help)
		return result;
	if (optind == argc)
		return error_say(err, EINVAL, "a command is missing");
	options->verb = argv[argc - 1];
	options->names = argv + optind;
	options->name_count = (size_t)(argc - 1 - optind);
	result = check_verb(options->verb, err);
	return result ? result : check_names(options, err);
}
