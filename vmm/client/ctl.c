#include "vmm/client/ctl.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "vmm/client/control_session.h"
#include "vmm/options/help.h"
#include "vmm/options/options.h"

static const struct option long_options[] = {
	{"json", no_argument, NULL, 'j'},
	{"socket", required_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int say_usage(const char *what)
{
	fprintf(stderr, "ebb ctl: %s; see `ebb help ctl`\n", what);
	return 2;
}

static int run(struct control_session *session, char **words, int count)
{
	enum control_outcome outcome;
	struct error error;

	if (control_session_open(session, &error)) {
		fprintf(stderr, "ebb ctl: %s\n", error.text);
		return 1;
	}
	control_client_catch_interrupt();
	outcome = control_session_run(session, "ebb ctl: ", (const char *const *)words,
				      (size_t)count);
	control_session_close(session);
	return outcome == CONTROL_GONE ? 1 : (int)outcome;
}

int ctl_main(int argc, char **argv)
{
	struct control_session session = {.interrupt_ends = true};
	struct error error;
	int option;

	optind = 0;
	opterr = 0;
	/* "+": what follows NAME belongs to the command. */
	while ((option = getopt_long(argc, argv, "+h", long_options, NULL)) != -1) {
		switch (option) {
		case 'j':
			session.json = true;
			break;
		case 's':
			session.path = optarg;
			break;
		case 'h':
			help_print(stdout, "ctl");
			return 0;
		default:
			return say_usage("unknown option, or its argument is missing");
		}
	}
	if (optind == argc)
		return say_usage("the machine's name is missing");
	session.name = argv[optind++];
	if (options_check_name(session.name, &error)) {
		fprintf(stderr, "ebb ctl: %s\n", error.text);
		return 2;
	}
	if (optind == argc)
		return say_usage("a command is missing");
	return run(&session, argv + optind, argc - optind);
}
