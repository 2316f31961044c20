/* A kernel file made of a fuzzer's bytes, opened and, if it is let in, loaded. */
#ifndef EBB_TESTS_FUZZ_KERNEL_H
#define EBB_TESTS_FUZZ_KERNEL_H

#include <stddef.h>

/*
 * @kernel and @initrd (NULL: none) are the files' contents. Where the boot says yes, what it says
 * has to be so: the entry and the parameters lie in RAM.
 */
void fuzz_boot(const void *kernel, size_t kernel_size, const void *initrd, size_t initrd_size,
	       const char *cmdline, unsigned long memory_bytes);

#endif
