/*
 * Compression of one page. A codec holds the tables that compressing or decompressing needs: it is
 * for one thread at a time.
 */
#ifndef EBB_SWAP_CODEC_H
#define EBB_SWAP_CODEC_H

#include <stddef.h>

#include "swap/store_config.h"

struct codec;

/*
 * @level: zstd only; 0 is the library's default. A codec serves both directions, and allocates what
 * a direction needs when it is first used. 0, -EINVAL: the level; or -ENOMEM.
 */
int codec_create(enum store_compression compression, int level, struct codec **out);
void codec_destroy(struct codec *codec);

/*
 * Compresses the page to @out, @room bytes. Returns the size, or 0: does not fit (or is not to be
 * compressed, or there is no memory to do it with): keep it as it is.
 */
size_t codec_compress(struct codec *codec, const void *page, void *out, size_t room);

/* 0, -EBADMSG: the @size bytes are not exactly one compressed page; or -ENOMEM. Never overruns. */
int codec_decompress(struct codec *codec, const void *in, size_t size, void *page);

/* "lz4", "zstd", "none". */
const char *codec_name(enum store_compression compression);

#endif
