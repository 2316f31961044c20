/* What the store's user chooses, and what a store says of itself. Plain data. */
#ifndef EBB_SWAP_STORE_CONFIG_H
#define EBB_SWAP_STORE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

enum store_compression {
	STORE_COMPRESS_LZ4,
	STORE_COMPRESS_ZSTD,
	STORE_COMPRESS_NONE,
};

enum store_io_kind {
	STORE_IO_AUTO,    /* io_uring, or threads where the host refuses it */
	STORE_IO_URING,   /* io_uring, or fail */
	STORE_IO_THREADS, /* pread() and pwrite() on a few threads */
};

struct store_config {
	const char *path;     /* a directory or a block device; NULL: the pool alone is the store */
	int fd;               /* > 0: of store_reserve(path), borrowed; 0: open the path anew */
	uint64_t pool_bytes;  /* RAM for compressed pages; 0: no pool */
	uint64_t limit_bytes; /* of the file's blocks; 0: as much as there is */
	enum store_compression compression;
	int level; /* zstd: 1 to 19; 0: the library's default */
	bool encrypt;
	enum store_io_kind io;
};

/* What the store holds and what it costs. Bytes. */
struct store_usage {
	uint64_t entries;        /* pages in the store */
	uint64_t entries_filled; /* of those, the ones that take no space */
	uint64_t entries_pool;   /* of those, the ones in the pool */
	uint64_t live_bytes;     /* of the records in use, pool and file */
	uint64_t pool_bytes;     /* RAM that the pool takes */
	uint64_t file_bytes;     /* blocks that the file takes (a block device: its segments) */
	uint64_t ram_bytes;      /* tables and buffers; not the pool */
	uint64_t written_bytes;  /* to the file, ever */
	uint64_t read_bytes;     /* from the file, ever */
	uint64_t evicted_bytes;  /* from the pool to the file, ever */
	bool uring;              /* io_uring is used */
	bool direct;             /* O_DIRECT is used */
};

#endif
