/* Compression of a page: what comes back, and what becomes of damaged input. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "swap/codec.h"

#define PAGE 4096u

static void fill_text(uint8_t *page, uint32_t seed)
{
	for (size_t i = 0; i < PAGE; i++)
		page[i] = (uint8_t) "swap out, swap in; "[(i + seed) % 19];
	memcpy(page + 100, &seed, sizeof(seed));
}

static void fill_noise(uint8_t *page, uint32_t seed)
{
	uint64_t state = seed + 1;

	for (size_t i = 0; i < PAGE; i++) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		page[i] = (uint8_t)(state >> 56);
	}
}

static struct codec *make(enum store_compression compression, int level)
{
	struct codec *codec;

	assert_int_equal(codec_create(compression, level, &codec), 0);
	return codec;
}

static void what_was_compressed_comes_back(void **state)
{
	static const struct {
		enum store_compression compression;
		int level;
	} cases[] = {{STORE_COMPRESS_LZ4, 0},
		     {STORE_COMPRESS_ZSTD, 0},
		     {STORE_COMPRESS_ZSTD, 1},
		     {STORE_COMPRESS_ZSTD, 19}};
	uint8_t page[PAGE], out[PAGE], back[PAGE];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct codec *codec = make(cases[i].compression, cases[i].level);

		for (uint32_t seed = 0; seed < 50; seed++) {
			size_t size;

			fill_text(page, seed);
			size = codec_compress(codec, page, out, sizeof(out));
			assert_in_range(size, 1, PAGE / 8);
			assert_int_equal(codec_decompress(codec, out, size, back), 0);
			assert_memory_equal(page, back, PAGE);
		}
		codec_destroy(codec);
	}
}

static void what_does_not_fit_is_left_alone(void **state)
{
	uint8_t page[PAGE], out[PAGE + 1];
	(void)state;

	for (int compression = 0; compression <= STORE_COMPRESS_NONE; compression++) {
		struct codec *codec = make((enum store_compression)compression, 0);

		fill_noise(page, 1);
		out[3584] = 0x77;
		assert_int_equal(codec_compress(codec, page, out, 3584), 0);
		assert_int_equal(out[3584], 0x77);
		codec_destroy(codec);
	}
}

static void damaged_input_never_overruns(void **state)
{
	uint8_t page[PAGE], out[PAGE], back[PAGE + 16];
	(void)state;

	for (int compression = 0; compression <= STORE_COMPRESS_ZSTD; compression++) {
		struct codec *codec = make((enum store_compression)compression, 0);
		size_t size;

		memset(back, 0x77, sizeof(back));
		fill_text(page, 3);
		size = codec_compress(codec, page, out, sizeof(out));
		assert_int_equal(codec_decompress(codec, out, size - 1, back), -EBADMSG);
		for (size_t bit = 0; bit < size * 8; bit++) {
			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
			codec_decompress(codec, out, size, back);
			out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (uint32_t seed = 0; seed < 500; seed++) {
			fill_noise(page, seed);
			codec_decompress(codec, page, seed * 8, back);
		}
		for (size_t i = PAGE; i < sizeof(back); i++)
			assert_int_equal(back[i], 0x77);
		codec_destroy(codec);
	}
}

static void levels_that_are_none_are_refused(void **state)
{
	struct codec *codec;
	(void)state;

	assert_int_equal(codec_create(STORE_COMPRESS_ZSTD, -1, &codec), -EINVAL);
	assert_int_equal(codec_create(STORE_COMPRESS_ZSTD, 99, &codec), -EINVAL);
	assert_int_equal(codec_create((enum store_compression)7, 0, &codec), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_compressed_comes_back),
		cmocka_unit_test(what_does_not_fit_is_left_alone),
		cmocka_unit_test(damaged_input_never_overruns),
		cmocka_unit_test(levels_that_are_none_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
