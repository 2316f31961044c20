/*
 * What guards a record in the file: AES-256-GCM, or a checksum alone.
 *
 * The key is random, made when the store is, lives in secret memory (swap/secret.h) and nowhere
 * else. Nonce: the segment's sequence number and the record's offset, a pair that is never used for
 * two different plaintexts under one key. The tag says that the payload is exactly what was sealed
 * under that pair. A checksum's tag says the same against accidents, not against an attacker who
 * can read ebb's memory or who collects many tags.
 *
 * A key is for any thread, a cipher for one at a time.
 */
#ifndef EBB_SWAP_CIPHER_H
#define EBB_SWAP_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CIPHER_TAG 16u

struct cipher_key;
struct cipher;

/* Which record: its segment's sequence number and its offset there, a multiple of 16 below 1 MiB. */
struct cipher_nonce {
	uint64_t sequence;
	uint32_t offset;
};

/* A fresh random key. 0, -ENOMEM, or -EIO: libcrypto has no AES-256-GCM. */
int cipher_key_create(bool encrypt, struct cipher_key **out);
/* All its ciphers are gone. NULL is legal. */
void cipher_key_destroy(struct cipher_key *key);

/* @seal: for cipher_seal(), else for cipher_open(). 0, -ENOMEM or -EIO. */
int cipher_create(struct cipher_key *key, bool seal, struct cipher **out);
void cipher_destroy(struct cipher *cipher);

/*
 * Seals @size bytes (a page at most) at @in to @out, which may be the same, and their @tag. 0 or -EIO.
 */
int cipher_seal(struct cipher *cipher, struct cipher_nonce nonce, const void *in, size_t size,
		void *out, uint8_t tag[static CIPHER_TAG]);

/*
 * What was sealed: @in itself where it is not encrypted, else @scratch (@size bytes). NULL: @in is
 * not what was sealed with this nonce and tag; @scratch is not to be used then.
 */
const void *cipher_open(struct cipher *cipher, struct cipher_nonce nonce, const void *in,
			size_t size, const uint8_t tag[static CIPHER_TAG], void *scratch);

#endif
