#include "vmm/options/options_swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/checked.h"
#include "vmm/base/size.h"

#define ZSTD_LEVEL_MIN 1
#define ZSTD_LEVEL_MAX 19

void options_swap_defaults(struct vm_config *config)
{
	config->swap.store.compression = STORE_COMPRESS_LZ4;
	config->swap.store.encrypt = true;
	config->swap.store.io = STORE_IO_AUTO;
}

/* A size of at least @least bytes. */
static int parse_size(const char *option, const char *text, uint64_t least, uint64_t *bytes,
		      struct error *err)
{
	char minimum[32];
	int result = size_parse(text, bytes);

	if (result == -ERANGE)
		return error_say(err, EINVAL, "--%s %.80s: out of reach; give less", option, text);
	if (result)
		return error_say(err, EINVAL, "--%s %.80s: no size; write for example 256M or 4G",
				 option, text);
	if (*bytes < least)
		return error_say(err, EINVAL, "--%s %.80s: too small; give %s or more", option,
				 text, size_format(least, minimum, sizeof(minimum)));
	return 0;
}

int options_parse_swap_dir(struct vm_config *config, char *text, struct error *err)
{
	if (!*text)
		return error_say(err, EINVAL, "--swap-dir: a path is missing");
	config->swap.store.path = text;
	return 0;
}

int options_parse_swap_pool(struct vm_config *config, char *text, struct error *err)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * page_size;
	uint64_t bytes;
	char size[32];
	int result = parse_size("swap-pool", text, OPTIONS_POOL_MIN, &bytes, err);

	if (result)
		return result;
	if (bytes > host)
		return error_say(
			err, EINVAL,
			"--swap-pool %.80s: the pool is memory of this host, which has %s; give "
			"less",
			text, size_format(host, size, sizeof(size)));
	config->swap.store.pool_bytes = bytes;
	return 0;
}

int options_parse_swap_limit(struct vm_config *config, char *text, struct error *err)
{
	uint64_t bytes;
	int result = parse_size("swap-limit", text, OPTIONS_LIMIT_MIN, &bytes, err);

	if (!result)
		config->swap.store.limit_bytes = bytes;
	return result;
}

static int parse_level(const char *text, int *level, struct error *err)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || *end || text[0] < '0' || text[0] > '9' || value < ZSTD_LEVEL_MIN ||
	    value > ZSTD_LEVEL_MAX)
		return error_say(err, EINVAL,
				 "--swap-compress zstd:%.40s: the level is a number from %d (fast) "
				 "to %d (small)",
				 text, ZSTD_LEVEL_MIN, ZSTD_LEVEL_MAX);
	*level = (int)value;
	return 0;
}

int options_parse_swap_compress(struct vm_config *config, char *text, struct error *err)
{
	struct store_config *store = &config->swap.store;

	store->level = 0;
	if (!strcmp(text, "lz4")) {
		store->compression = STORE_COMPRESS_LZ4;
	} else if (!strcmp(text, "none")) {
		store->compression = STORE_COMPRESS_NONE;
	} else if (!strcmp(text, "zstd")) {
		store->compression = STORE_COMPRESS_ZSTD;
	} else if (!strncmp(text, "zstd:", 5)) {
		store->compression = STORE_COMPRESS_ZSTD;
		return parse_level(text + 5, &store->level, err);
	} else {
		return error_say(err, EINVAL,
				 "--swap-compress %.80s: give lz4, zstd, zstd:LEVEL (%d to %d) or "
				 "none",
				 text, ZSTD_LEVEL_MIN, ZSTD_LEVEL_MAX);
	}
	return 0;
}

int options_parse_swap_encrypt(struct vm_config *config, char *text, struct error *err)
{
	bool on = !strcmp(text, "on");

	if (!on && strcmp(text, "off") != 0)
		return error_say(err, EINVAL, "--swap-encrypt %.80s: give on or off", text);
	config->swap.store.encrypt = on;
	return 0;
}

int options_parse_swap_io(struct vm_config *config, char *text, struct error *err)
{
	static const struct {
		const char *name;
		enum store_io_kind kind;
	} kinds[] = {
		{"auto", STORE_IO_AUTO},
		{"uring", STORE_IO_URING},
		{"threads", STORE_IO_THREADS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!strcmp(text, kinds[i].name)) {
			config->swap.store.io = kinds[i].kind;
			return 0;
		}
	}
	return error_say(err, EINVAL, "--swap-io %.80s: give auto, uring or threads", text);
}

int options_parse_swap_auto(struct vm_config *config, char *text, struct error *err)
{
	struct error why;

	if (swap_policy_parse(text, &config->swap_auto, &why))
		return error_say(err, EINVAL, "--swap-auto: %s", why.text);
	return 0;
}

int options_settle_swap(const struct vm_config *config, struct error *err)
{
	const struct store_config *store = &config->swap.store;

	if (store->limit_bytes && !store->path)
		return error_say(err, EINVAL,
				 "--swap-limit: it bounds what is written to --swap-dir, which is "
				 "not given (the size of a pool is --swap-pool SIZE)");
	if (swap_policy_is_on(&config->swap_auto) && !store->path && !store->pool_bytes)
		return error_say(err, EINVAL,
				 "--swap-auto: there is no place to swap to; give --swap-dir PATH, "
				 "or --swap-pool SIZE");
	return 0;
}
