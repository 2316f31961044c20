#include "swap/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/base/log.h"

#define GRANULE      256u
#define GRANULES     16384u /* 4 MiB of addresses */
#define STEP         256u   /* granules that are made usable at a time: 64 KiB */
#define SECRET_BYTES ((size_t)GRANULE * GRANULES)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards usable, sizes, lock_failed */
static char *base;                                       /* constant after once */
static uint32_t usable;                                  /* granules, from the start */
static uint16_t sizes[GRANULES]; /* granules of the block that begins here; 0: none begins here */
static bool lock_failed;
static _Thread_local bool scope;

bool secret_owns(const void *memory)
{
	return base && (const char *)memory >= base && (const char *)memory < base + SECRET_BYTES;
}

static bool grow(void)
{
	char *start = base + (size_t)usable * GRANULE;
	const size_t length = (size_t)STEP * GRANULE;

	if (usable + STEP > GRANULES || mprotect(start, length, PROT_READ | PROT_WRITE))
		return false;
	if (mlock(start, length) && !lock_failed) {
		lock_failed = true;
		log_warning("swap store: the key's memory cannot be locked (%s), it may be swapped "
			    "out by the host; raise the limit (ulimit -l)",
			    strerror(errno));
	}
	usable += STEP;
	return true;
}

/* The first of @count free granules side by side; GRANULES: there are none. */
static uint32_t find(uint32_t count)
{
	uint32_t at = 0, start = 0;

	while (start + count <= usable) {
		if (at - start == count)
			return start;
		if (sizes[at]) {
			at += sizes[at];
			start = at;
		} else {
			at++;
		}
	}
	return GRANULES;
}

void *secret_alloc(size_t size)
{
	uint32_t count = (uint32_t)((size + GRANULE - 1) / GRANULE), at;

	if (!base || size > SECRET_BYTES / 2)
		return NULL;
	if (count == 0)
		count = 1;
	pthread_mutex_lock(&lock);
	while ((at = find(count)) == GRANULES)
		if (!grow())
			break;
	if (at < GRANULES)
		sizes[at] = (uint16_t)count;
	pthread_mutex_unlock(&lock);
	return at < GRANULES ? base + (size_t)at * GRANULE : NULL;
}

static size_t size_of(const void *memory)
{
	size_t granules;

	pthread_mutex_lock(&lock);
	granules = sizes[(size_t)((const char *)memory - base) / GRANULE];
	pthread_mutex_unlock(&lock);
	return granules * GRANULE;
}

void secret_free(void *memory)
{
	if (!memory)
		return;
	OPENSSL_cleanse(memory, size_of(memory));
	pthread_mutex_lock(&lock);
	sizes[(size_t)((char *)memory - base) / GRANULE] = 0;
	pthread_mutex_unlock(&lock);
}

void secret_scope_begin(void)
{
	scope = true;
}

void secret_scope_end(void)
{
	scope = false;
}

/* libcrypto's allocator. Outside of a scope it is the C library's. */

static void *crypto_malloc(size_t size, const char *file, int line)
{
	(void)file, (void)line;
	return scope ? secret_alloc(size) : malloc(size);
}

static void crypto_free(void *memory, const char *file, int line)
{
	(void)file, (void)line;
	if (secret_owns(memory))
		secret_free(memory);
	else
		free(memory);
}

static void *crypto_realloc(void *memory, size_t size, const char *file, int line)
{
	size_t before;
	void *moved;

	if (!memory)
		return crypto_malloc(size, file, line);
	if (!secret_owns(memory))
		return realloc(memory, size);
	before = size_of(memory);
	moved = size ? secret_alloc(size) : NULL;
	if (moved)
		memcpy(moved, memory, before < size ? before : size);
	if (moved || size == 0)
		secret_free(memory);
	return moved;
}

static void reserve(void)
{
	void *range = mmap(NULL, SECRET_BYTES, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (range == MAP_FAILED)
		return;
	/* Advice that a kernel does not know costs a protection, not the store. */
	madvise(range, SECRET_BYTES, MADV_DONTDUMP);
	madvise(range, SECRET_BYTES, MADV_WIPEONFORK);
	base = range;
	if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free))
		log_warning("swap store: libcrypto was in use before; its expanded keys are in "
			    "memory that is not locked");
	/* Its configuration is a file, which may be out of reach when libcrypto is first used. */
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}

int secret_init(void)
{
	pthread_once(&once, reserve);
	return base ? 0 : -ENOMEM;
}
