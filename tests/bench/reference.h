/* What ebb is compared with, measured by bench_reference. Each returns a JSON object. */
#ifndef EBB_BENCH_REFERENCE_H
#define EBB_BENCH_REFERENCE_H

#include "tests/bench/measure.h"

/* memcpy() of memory into a fresh memfd: what a design that copies has to pay. */
json_t *reference_memcpy(const struct bench_options *options);

/*
 * The kernel's swap, to whatever swap device is active: shared memory with the same contents is
 * paged out by MADV_PAGEOUT and touched again.
 */
json_t *reference_kernel_swap(const struct bench_options *options);

/* The disk below the directory, by O_DIRECT: sequential in 1 MiB blocks, four at a time, and single
 * random pages. */
json_t *reference_disk(const struct bench_options *options);

/* Round trips of a bare userfaultfd, by where the answering thread runs. */
json_t *reference_uffd(const struct bench_options *options);

/* {"skipped": reason} */
json_t *reference_skipped(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
