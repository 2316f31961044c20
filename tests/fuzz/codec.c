/*
 * A compressed page as it may stand in the store's file, damaged: it is decompressed to a page, or
 * refused; nothing is written behind the page.
 */
#include "swap/codec.h"

#include <stdlib.h>

#include "tests/fuzz/input.h"

#define PAGE  4096u
#define GUARD 64u

#define CODECS 3u

/* A page with repetitions in it, as many as the input wants. */
static void make_page(struct fuzz_input *input, uint8_t page[static PAGE])
{
	uint8_t pattern[16];
	size_t length = 1 + fuzz_u8(input) % sizeof(pattern);

	fuzz_take(input, pattern, sizeof(pattern));
	for (size_t i = 0; i < PAGE; i++)
		page[i] = (uint8_t)(pattern[i % length] + i / (1 + pattern[0]));
}

static void damage(struct fuzz_input *input, uint8_t *packed, size_t *length)
{
	if (fuzz_u8(input) & 1)
		*length = fuzz_u16(input) % (*length + 1);
	while (fuzz_more(input) && *length)
		packed[fuzz_u16(input) % *length] = fuzz_u8(input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t page[PAGE], packed[PAGE], out[PAGE + GUARD];
	struct fuzz_input input = {data, size};
	struct codec *codec;
	size_t length;

	uint8_t kind = fuzz_u8(&input);

	if (codec_create((enum store_compression)(kind % CODECS), 0, &codec))
		abort();
	if (!*codec_name((enum store_compression)(kind % CODECS)))
		abort();
	make_page(&input, page);
	length = codec_compress(codec, page, packed, sizeof(packed));
	if (kind & 0x80) /* not what was packed, but what somebody else has written */
		length = 0;
	if (length && (codec_decompress(codec, packed, length, out) || memcmp(page, out, PAGE)))
		abort();
	if (!length)
		length = fuzz_take(&input, packed, sizeof(packed));
	damage(&input, packed, &length);
	memset(out, 0x5a, sizeof(out));
	codec_decompress(codec, packed, length, out);
	for (size_t i = PAGE; i < sizeof(out); i++)
		if (out[i] != 0x5a)
			abort();
	codec_destroy(codec);
	return 0;
}
