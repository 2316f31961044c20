/*
 * A fuzzer's bytes, read in order. Reading behind the end gives zeros, so that any input is a whole
 * one.
 */
#ifndef EBB_TESTS_FUZZ_INPUT_H
#define EBB_TESTS_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz_input {
	const uint8_t *data;
	size_t left;
};

/* What every target defines; libFuzzer or runner.c calls it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline bool fuzz_more(const struct fuzz_input *input)
{
	return input->left > 0;
}

/* Copies up to @length bytes, returns how many there were; the rest of @bytes is zero. */
static inline size_t fuzz_take(struct fuzz_input *input, void *bytes, size_t length)
{
	size_t got = length < input->left ? length : input->left;

	memset(bytes, 0, length);
	if (got)
		memcpy(bytes, input->data, got);
	input->data += got;
	input->left -= got;
	return got;
}

static inline uint8_t fuzz_u8(struct fuzz_input *input)
{
	uint8_t value;

	fuzz_take(input, &value, sizeof(value));
	return value;
}

static inline uint16_t fuzz_u16(struct fuzz_input *input)
{
	uint16_t value;

	fuzz_take(input, &value, sizeof(value));
	return value;
}

static inline uint32_t fuzz_u32(struct fuzz_input *input)
{
	uint32_t value;

	fuzz_take(input, &value, sizeof(value));
	return value;
}

static inline uint64_t fuzz_u64(struct fuzz_input *input)
{
	uint64_t value;

	fuzz_take(input, &value, sizeof(value));
	return value;
}

/* 1, 2, 4 or 8: the sizes of a guest's accesses. */
static inline unsigned fuzz_access_size(struct fuzz_input *input)
{
	return 1u << (fuzz_u8(input) & 3);
}

#endif
