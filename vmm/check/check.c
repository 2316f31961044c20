#include "vmm/check/check.h"

#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/base/log.h"
#include "vmm/check/check_internal.h"
#include "vmm/options/help.h"

/* `ebb run` has no default; this is where a file system good for swap is likely to be. */
#define DEFAULT_SWAP_DIR "/var/tmp"

struct check_result *check_add(struct check_report *report, const char *name, enum check_need need,
			       bool ok, const char *detail, ...)
{
	size_t last = CHECK_RESULTS_MAX - 1;
	struct check_result *result =
		&report->results[report->count > last ? last : report->count++];
	va_list args;

	*result = (struct check_result){.need = need, .ok = ok};
	snprintf(result->name, sizeof(result->name), "%s", name);
	va_start(args, detail);
	vsnprintf(result->detail, sizeof(result->detail), detail, args);
	va_end(args);
	return result;
}

void check_fix(struct check_result *result, const char *fix, ...)
{
	va_list args;

	va_start(args, fix);
	vsnprintf(result->fix, sizeof(result->fix), fix, args);
	va_end(args);
}

/* No check that @need names has failed. */
static bool all_ok(const struct check_report *report, enum check_need need)
{
	for (size_t i = 0; i < report->count; i++)
		if (report->results[i].need == need && !report->results[i].ok)
			return false;
	return true;
}

static bool can_run(const struct check_report *report)
{
	return all_ok(report, CHECK_NEEDED_TO_RUN);
}

static bool can_swap(const struct check_report *report)
{
	return can_run(report) && all_ok(report, CHECK_NEEDED_TO_SWAP);
}

static const char *mark(const struct check_result *result)
{
	if (result->ok)
		return "ok";
	return result->need == CHECK_NEEDED_TO_RUN || result->need == CHECK_NEEDED_TO_SWAP ? "FAIL"
											   : "no";
}

static void print_verdict(const struct check_report *report)
{
	if (!can_run(report)) {
		puts("\nNo guest runs here: see FAIL above.");
		return;
	}
	if (report->stock_kernels)
		puts("\nThis host runs stock kernels.");
	else
		printf("\nThis host's KVM only emulates ring 0 (%.1f million instructions/s): bare "
		       "guests only.\nA stock kernel runs here inside a host VM: "
		       "guest-images/demo.sh shows how.\n",
		       report->ring0_mips);
	puts(can_swap(report) ? "Guests can be swapped out."
			      : "Guests cannot be swapped out: see FAIL above.");
}

static void print_table(const struct check_report *report)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct check_result *result = &report->results[i];

		printf("%-4s  %-30s  %s\n", mark(result), result->name, result->detail);
		if (result->fix[0])
			printf("      %-30s  %s\n", "  mend it by:", result->fix);
	}
	print_verdict(report);
}

static json_t *result_json(const struct check_result *result)
{
	bool needed = result->need == CHECK_NEEDED_TO_RUN || result->need == CHECK_NEEDED_TO_SWAP;

	return json_pack("{s:s, s:b, s:b, s:s, s:s?}", "name", result->name, "ok", result->ok,
			 "needed", needed, "detail", result->detail, "fix",
			 result->fix[0] ? result->fix : NULL);
}

/* 0 or -1: out of memory. */
static int print_json(const struct check_report *report)
{
	json_t *checks = json_array();
	json_t *root =
		json_pack("{s:b, s:b, s:b, s:f, s:o}", "can_run", can_run(report), "can_swap",
			  can_swap(report), "stock_kernels", report->stock_kernels, "ring0_mips",
			  report->ring0_mips, "checks", checks);
	int result = root ? 0 : -1;

	for (size_t i = 0; !result && i < report->count; i++)
		result = json_array_append_new(checks, result_json(&report->results[i]));
	if (!result)
		result = json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(4));
	putchar('\n');
	json_decref(root);
	return result;
}

static int run_checks(const char *swap_dir, bool json)
{
	struct check_report *report = calloc(1, sizeof(*report));
	int status;

	if (!report) {
		log_error("out of memory");
		return 1;
	}
	check_kvm(report);
	check_userfaultfd(report);
	check_memfd(report);
	check_swap_directory(report, swap_dir);
	check_limits(report);
	check_programs(report);
	check_sandbox(report);
	status = can_swap(report) ? 0 : 1;
	if (!json)
		print_table(report);
	else if (print_json(report))
		status = 1;
	free(report);
	return status;
}

int check_main(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},
		{"swap-dir", required_argument, NULL, 'd'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *swap_dir = DEFAULT_SWAP_DIR;
	bool json = false;
	int option;

	optind = 0; /* a new argv */
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			json = true;
			break;
		case 'd':
			swap_dir = optarg;
			break;
		case 'h':
			help_print(stdout, "check");
			return 0;
		default:
			help_print(stderr, "check");
			return 2;
		}
	}
	if (optind < argc) {
		log_error("check: what is \"%s\"? see `ebb help check`", argv[optind]);
		return 2;
	}
	return run_checks(swap_dir, json);
}
