/*
 * What `ebb check` finds out, shared by its files: check.c (command and output), check_kvm.c,
 * check_host.c (userfaultfd, memfd, swap directory, limits), check_sandbox.c. Main thread only.
 */
#ifndef EBB_VMM_CHECK_CHECK_INTERNAL_H
#define EBB_VMM_CHECK_CHECK_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#define CHECK_RESULTS_MAX 64

/* What fails without it. */
enum check_need {
	CHECK_NEEDED_TO_RUN,
	CHECK_NEEDED_TO_SWAP,
	CHECK_NEEDED_BY_STOCK_KERNELS,
	CHECK_OPTIONAL,
};

struct check_result {
	char name[40];
	enum check_need need;
	bool ok;
	char detail[384];
	char fix[384]; /* "": none, or none needed */
};

struct check_report {
	struct check_result results[CHECK_RESULTS_MAX];
	size_t count;
	bool stock_kernels;
	double ring0_mips;
};

/* Adds a result with @detail as by printf, and returns it, so that a fix can be set. */
struct check_result *check_add(struct check_report *report, const char *name, enum check_need need,
			       bool ok, const char *detail, ...)
	__attribute__((format(printf, 5, 6)));

void check_fix(struct check_result *result, const char *fix, ...)
	__attribute__((format(printf, 2, 3)));

void check_kvm(struct check_report *report);
void check_userfaultfd(struct check_report *report);
void check_memfd(struct check_report *report);
void check_swap_directory(struct check_report *report, const char *dir);
void check_limits(struct check_report *report);
void check_programs(struct check_report *report);
void check_sandbox(struct check_report *report);

#endif
