#include "swap/cipher.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "swap/secret.h"

#define KEY_BYTES   32u
#define NONCE_BYTES 12u

struct cipher_key {
	EVP_CIPHER *algorithm; /* NULL: checksums */
	uint8_t *bytes;        /* KEY_BYTES, secret */
};

struct cipher {
	EVP_CIPHER_CTX *context; /* NULL: checksums */
	uint64_t checksum_key;
};

static int fill_random(uint8_t *bytes, size_t size)
{
	while (size > 0) {
		ssize_t got = getrandom(bytes, size, 0);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0) {
			bytes += got;
			size -= (size_t)got;
		}
	}
	return 0;
}

static EVP_CIPHER_CTX *new_context(const struct cipher_key *key, const uint8_t *bytes, bool seal)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int ok = context != NULL;

	if (ok && seal)
		ok = EVP_EncryptInit_ex(context, key->algorithm, NULL, bytes, NULL);
	else if (ok)
		ok = EVP_DecryptInit_ex(context, key->algorithm, NULL, bytes, NULL);
	if (ok)
		return context;
	EVP_CIPHER_CTX_free(context);
	return NULL;
}

/* What libcrypto sets up once must not end up in secret memory: let it do so with an empty key. */
static int warm_up(const struct cipher_key *key)
{
	static const uint8_t zeros[KEY_BYTES];
	EVP_CIPHER_CTX *context = new_context(key, zeros, true);

	EVP_CIPHER_CTX_free(context);
	return context ? 0 : -EIO;
}

int cipher_key_create(bool encrypt, struct cipher_key **out)
{
	struct cipher_key *key;
	int result = secret_init();

	if (result)
		return result;
	key = calloc(1, sizeof(*key));
	if (!key)
		return -ENOMEM;
	key->bytes = secret_alloc(KEY_BYTES);
	if (!key->bytes) {
		result = -ENOMEM;
		goto destroy;
	}
	result = fill_random(key->bytes, KEY_BYTES);
	if (!result && encrypt) {
		key->algorithm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
		result = key->algorithm ? warm_up(key) : -EIO;
	}
	if (!result) {
		*out = key;
		return 0;
	}
destroy:
	cipher_key_destroy(key);
	return result;
}

void cipher_key_destroy(struct cipher_key *key)
{
	if (!key)
		return;
	EVP_CIPHER_free(key->algorithm);
	secret_free(key->bytes);
	free(key);
}

int cipher_create(struct cipher_key *key, bool seal, struct cipher **out)
{
	struct cipher *cipher = calloc(1, sizeof(*cipher));

	if (!cipher)
		return -ENOMEM;
	if (key->algorithm) {
		secret_scope_begin();
		cipher->context = new_context(key, key->bytes, seal);
		secret_scope_end();
		if (!cipher->context) {
			free(cipher);
			return -ENOMEM;
		}
	} else {
		memcpy(&cipher->checksum_key, key->bytes, sizeof(cipher->checksum_key));
	}
	*out = cipher;
	return 0;
}

void cipher_destroy(struct cipher *cipher)
{
	if (!cipher)
		return;
	EVP_CIPHER_CTX_free(cipher->context);
	free(cipher);
}

static void nonce_bytes(struct cipher_nonce nonce, uint8_t bytes[static NONCE_BYTES])
{
	memcpy(bytes, &nonce.sequence, sizeof(nonce.sequence));
	memcpy(bytes + sizeof(nonce.sequence), &nonce.offset, sizeof(nonce.offset));
}

static void checksum(const struct cipher *cipher, struct cipher_nonce nonce, const void *data,
		     size_t size, uint8_t tag[static CIPHER_TAG])
{
	/* Offsets are multiples of 16 below 2^20: no two nonces share a seed. */
	uint64_t seed = cipher->checksum_key ^ (nonce.sequence << 16 | nonce.offset >> 4);
	XXH128_hash_t hash = XXH3_128bits_withSeed(data, size, seed);

	memcpy(tag, &hash, CIPHER_TAG);
}

int cipher_seal(struct cipher *cipher, struct cipher_nonce nonce, const void *in, size_t size,
		void *out, uint8_t tag[static CIPHER_TAG])
{
	EVP_CIPHER_CTX *context = cipher->context;
	uint8_t iv[NONCE_BYTES];
	int done;

	if (!context) {
		if (in != out)
			memcpy(out, in, size);
		checksum(cipher, nonce, out, size, tag);
		return 0;
	}
	nonce_bytes(nonce, iv);
	if (!EVP_EncryptInit_ex(context, NULL, NULL, NULL, iv) ||
	    !EVP_EncryptUpdate(context, out, &done, in, (int)size) ||
	    !EVP_EncryptFinal_ex(context, (uint8_t *)out + done, &done) ||
	    !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, CIPHER_TAG, tag))
		return -EIO;
	return 0;
}

const void *cipher_open(struct cipher *cipher, struct cipher_nonce nonce, const void *in,
			size_t size, const uint8_t tag[static CIPHER_TAG], void *scratch)
{
	EVP_CIPHER_CTX *context = cipher->context;
	uint8_t iv[NONCE_BYTES], expected[CIPHER_TAG];
	int done;

	memcpy(expected, tag, CIPHER_TAG);
	if (!context) {
		uint8_t actual[CIPHER_TAG];

		checksum(cipher, nonce, in, size, actual);
		return memcmp(actual, expected, CIPHER_TAG) ? NULL : in;
	}
	nonce_bytes(nonce, iv);
	if (!EVP_DecryptInit_ex(context, NULL, NULL, NULL, iv) ||
	    !EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, CIPHER_TAG, expected) ||
	    !EVP_DecryptUpdate(context, scratch, &done, in, (int)size) ||
	    EVP_DecryptFinal_ex(context, (uint8_t *)scratch + done, &done) <= 0)
		return NULL;
	return scratch;
}
