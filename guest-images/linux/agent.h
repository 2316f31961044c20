/*
 * The agent of the Linux test guest: init, and the tests' hand inside of the guest.
 *
 * It reads commands from the serial line, one a line, and answers each with one line, "@ok …" or
 * "@fail …". A first word that starts with # is a tag, repeated in the answer.
 */
#ifndef EBB_AGENT_H
#define EBB_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_WORDS_MAX 8

/* The answer to the command being executed: exactly one of these, once. */
void answer_done(void);
void answer_ok(const char *format, ...) __attribute__((format(printf, 1, 2)));
void answer_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* False with an answer given if @text (NULL: not given) is no number of at most @max. */
bool parse_number(const char *text, uint64_t max, uint64_t *value);

/* The word that a pattern has at @index. */
uint64_t pattern(uint64_t seed, uint64_t index);

/* mem alloc MB SEED | verify | touch PAGES | free */
void command_mem(char **words);
/* writers start THREADS [MB] | check | stop */
void command_writers(char **words);
/* disk list | write DEVICE MB SEED [direct] | verify DEVICE MB SEED [direct] | discard DEVICE MB |
 * zeroes DEVICE MB | flush DEVICE */
void command_disk(char **words);
/* vsock cid | serve PORT | connect PORT BYTES */
void command_vsock(char **words);

#endif
