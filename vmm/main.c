#include <stdio.h>
#include <string.h>

#include "vmm/base/checked.h"
#include "vmm/check.h"
#include "vmm/console.h"
#include "vmm/ctl.h"
#include "vmm/help.h"
#include "vmm/ls.h"
#include "vmm/report.h"
#include "vmm/run.h"
#include "vmm/swap_all.h"
#include "vmm/top/top.h"

static int version_main(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("ebb " EBB_VERSION);
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
