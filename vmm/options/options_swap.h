/*
 * The options of `ebb run` that choose where and how memory is swapped out. Called by options.c
 * alone, one function an option; each says what is wrong in one line and returns 0 or -EINVAL.
 */
#ifndef EBB_VMM_OPTIONS_OPTIONS_SWAP_H
#define EBB_VMM_OPTIONS_OPTIONS_SWAP_H

#include "vmm/base/error.h"
#include "vmm/machine/config.h"

#define OPTIONS_POOL_MIN  (4ull << 20)
#define OPTIONS_LIMIT_MIN (4ull << 20)

/* What holds without any option: compressed by LZ4, encrypted, nowhere to go. */
void options_swap_defaults(struct vm_config *config);

int options_parse_swap_dir(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_pool(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_limit(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_compress(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_encrypt(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_io(struct vm_config *config, char *text, struct error *err);
int options_parse_swap_auto(struct vm_config *config, char *text, struct error *err);

/* After the last option: what makes sense only together. */
int options_settle_swap(const struct vm_config *config, struct error *err);

#endif
