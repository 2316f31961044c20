#include "swap/codec.h"

#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <zstd.h>

#include "swap/store_location.h"
#include "vmm/base/checked.h"

struct codec {
	const struct codec_ops *ops;
	int level;
	void *lz4;
	ZSTD_CCtx *compressor;
	ZSTD_DCtx *decompressor;
};

struct codec_ops {
	const char *name;
	size_t (*compress)(struct codec *codec, const void *page, void *out, size_t room);
	int (*decompress)(struct codec *codec, const void *in, size_t size, void *page);
};

static size_t lz4_compress(struct codec *codec, const void *page, void *out, size_t room)
{
	int size;

	if (!codec->lz4)
		codec->lz4 = malloc((size_t)LZ4_sizeofState());
	if (!codec->lz4)
		return 0;
	size = LZ4_compress_fast_extState(codec->lz4, page, out, STORE_PAGE, (int)room, 1);
	return size > 0 ? (size_t)size : 0;
}

static int lz4_decompress(struct codec *codec, const void *in, size_t size, void *page)
{
	(void)codec;
	return LZ4_decompress_safe(in, page, (int)size, STORE_PAGE) == STORE_PAGE ? 0 : -EBADMSG;
}

static size_t zstd_compress(struct codec *codec, const void *page, void *out, size_t room)
{
	size_t size;

	if (!codec->compressor) {
		codec->compressor = ZSTD_createCCtx();
		if (!codec->compressor)
			return 0;
		ZSTD_CCtx_setParameter(codec->compressor, ZSTD_c_compressionLevel, codec->level);
		/* The size is known, and the record's tag guards the contents. */
		ZSTD_CCtx_setParameter(codec->compressor, ZSTD_c_contentSizeFlag, 0);
	}
	size = ZSTD_compress2(codec->compressor, out, room, page, STORE_PAGE);
	return ZSTD_isError(size) ? 0 : size;
}

static int zstd_decompress(struct codec *codec, const void *in, size_t size, void *page)
{
	if (!codec->decompressor)
		codec->decompressor = ZSTD_createDCtx();
	if (!codec->decompressor)
		return -ENOMEM;
	return ZSTD_decompressDCtx(codec->decompressor, page, STORE_PAGE, in, size) == STORE_PAGE
		       ? 0
		       : -EBADMSG;
}

static size_t none_compress(struct codec *codec, const void *page, void *out, size_t room)
{
	(void)codec, (void)page, (void)out, (void)room;
	return 0;
}

static int none_decompress(struct codec *codec, const void *in, size_t size, void *page)
{
	(void)codec, (void)in, (void)size, (void)page;
	return -EBADMSG;
}

static const struct codec_ops codecs[] = {
	[STORE_COMPRESS_LZ4] = {"lz4", lz4_compress, lz4_decompress},
	[STORE_COMPRESS_ZSTD] = {"zstd", zstd_compress, zstd_decompress},
	[STORE_COMPRESS_NONE] = {"none", none_compress, none_decompress},
};

int codec_create(enum store_compression compression, int level, struct codec **out)
{
	struct codec *codec;

	if ((size_t)compression >= ARRAY_SIZE(codecs) || level < 0 || level > ZSTD_maxCLevel())
		return -EINVAL;
	codec = calloc(1, sizeof(*codec));
	if (!codec)
		return -ENOMEM;
	codec->ops = &codecs[compression];
	codec->level = level ? level : ZSTD_CLEVEL_DEFAULT;
	*out = codec;
	return 0;
}

void codec_destroy(struct codec *codec)
{
	if (!codec)
		return;
	ZSTD_freeDCtx(codec->decompressor);
	ZSTD_freeCCtx(codec->compressor);
	free(codec->lz4);
	free(codec);
}

size_t codec_compress(struct codec *codec, const void *page, void *out, size_t room)
{
	return codec->ops->compress(codec, page, out, room);
}

int codec_decompress(struct codec *codec, const void *in, size_t size, void *page)
{
	return codec->ops->decompress(codec, in, size, page);
}

const char *codec_name(enum store_compression compression)
{
	return codecs[compression].name;
}
