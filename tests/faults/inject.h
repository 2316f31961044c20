/*
 * What inject.c decides, and inject_calls.c asks it: whether a call meets a fault. Any thread.
 */
#ifndef EBB_TESTS_FAULTS_INJECT_H
#define EBB_TESTS_FAULTS_INJECT_H

#include <stdint.h>

enum mode {
	MODE_NONE,
	MODE_FAIL,
	MODE_ALWAYS,
	MODE_SHORT,
	MODE_EINTR
};

/* What is to become of the call of @name that asks for @detail, made at @caller. */
enum mode inject_judge(const char *name, uint64_t detail, const void *caller, const void *outer);

/* Where the function around @caller was called; NULL if that cannot be told. */
const void *inject_outer(const void *caller);

#ifdef EBB_FRAME_POINTERS
#define OUTER() __builtin_return_address(1)
#else
#define OUTER() inject_outer(__builtin_return_address(0))
#endif

#define JUDGE(name, detail)                                                                        \
	inject_judge(name, (uint64_t)(detail), __builtin_return_address(0), OUTER())

#endif
