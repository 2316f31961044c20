#include <stdio.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/check/check.h"
#include "vmm/client/console.h"
#include "vmm/client/ctl.h"
#include "vmm/client/ls.h"
#include "vmm/client/report.h"
#include "vmm/client/swap_all.h"
#include "vmm/client/top/top.h"
#include "vmm/help_json.h"
#include "vmm/options/help.h"
#include "vmm/run.h"

static int version_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("ebb " EBB_VERSION);
	return 0;
}

static int help_main(int argc, char **argv)
{
	if (argc > 2) {
		help_print(stderr, "help");
		return 2;
	}
	if (argc == 2 && !strcmp(argv[1], "--json"))
		return help_json_print(stdout) ? 1 : 0;
	if (help_print(stdout, argc == 2 ? argv[1] : NULL)) {
		fprintf(stderr, "ebb help: there is no command \"%s\"; see `ebb help`\n", argv[1]);
		return 2;
	}
	return 0;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} subcommands[] = {
	{"run", run_main},       {"ctl", ctl_main},   {"console", console_main},
	{"swap", swap_all_main}, {"ls", ls_main},     {"report", report_main},
	{"check", check_main},   {"help", help_main}, {"version", version_main},
	{"--help", help_main},   {"-h", help_main},   {"--version", version_main},
	{"top", top_main},
};

int main(int argc, char **argv)
{
	if (argc < 2) {
		help_print(stderr, NULL);
		return 2;
	}
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++) {
		if (!strcmp(argv[1], subcommands[i].name))
			return subcommands[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "ebb: there is no command \"%s\"; see `ebb help`\n", argv[1]);
	return 2;
}
