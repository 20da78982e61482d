/*
 * AES-256-GCM for the messages between an SNP guest and the firmware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * NIST SP 800-38D with 96-bit initialization vectors.  QEMU is built without a
 * cryptographic library here; a few messages of some hundred bytes need no
 * fast multiplication.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "crypto/aes.h"
#include "gcm.h"

#define BLOCK 16

typedef struct Gcm {
    AES_KEY key;
    uint8_t h[BLOCK];           /* hash key */
    uint8_t first[BLOCK];       /* encrypted counter 1: masks the tag */
    uint8_t counter[BLOCK];
    uint8_t hash[BLOCK];
} Gcm;

static void start(Gcm *g, const uint8_t *key, const uint8_t *iv)
{
    memset(g, 0, sizeof(*g));
    AES_set_encrypt_key(key, 256, &g->key);
    AES_encrypt(g->h, g->h, &g->key);
    memcpy(g->counter, iv, SEV_GCM_IV_SIZE);
    stl_be_p(g->counter + SEV_GCM_IV_SIZE, 1);
    AES_encrypt(g->counter, g->first, &g->key);
}

/* Multiply the hash by the hash key in GF(2^128), bit by bit. */
static void multiply(Gcm *g)
{
    uint64_t vh = ldq_be_p(g->h), vl = ldq_be_p(g->h + 8), zh = 0, zl = 0;

    for (int i = 0; i < 128; i++) {
        uint64_t bit = -(uint64_t)(g->hash[i / 8] >> (7 - i % 8) & 1);
        uint64_t carry = -(vl & 1);

        zh ^= vh & bit;
        zl ^= vl & bit;
        vl = vl >> 1 | vh << 63;
        vh = vh >> 1 ^ (carry & 0xe1ull << 56);
    }
    stq_be_p(g->hash, zh);
    stq_be_p(g->hash + 8, zl);
}

static void add(Gcm *g, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        g->hash[i % BLOCK] ^= data[i];
        if (i % BLOCK == BLOCK - 1 || i == size - 1) {
            multiply(g);
        }
    }
}

static void apply_stream(Gcm *g, const SevGcmText *text)
{
    uint8_t stream[BLOCK];

    for (size_t i = 0; i < text->size; i++) {
        if (i % BLOCK == 0) {
            stl_be_p(g->counter + SEV_GCM_IV_SIZE,
                     ldl_be_p(g->counter + SEV_GCM_IV_SIZE) + 1);
            AES_encrypt(g->counter, stream, &g->key);
        }
        text->out[i] = text->in[i] ^ stream[i % BLOCK];
    }
}

static void finish(Gcm *g, const SevGcmText *text, uint8_t *tag)
{
    uint8_t lengths[BLOCK];

    stq_be_p(lengths, text->aad_size * 8);
    stq_be_p(lengths + 8, text->size * 8);
    add(g, lengths, BLOCK);
    for (int i = 0; i < BLOCK; i++) {
        tag[i] = g->hash[i] ^ g->first[i];
    }
    explicit_bzero(g, sizeof(*g));
}

void sev_gcm_seal(const uint8_t *key, const uint8_t *iv, const SevGcmText *text,
                  uint8_t *tag)
{
    Gcm g;

    start(&g, key, iv);
    add(&g, text->aad, text->aad_size);
    apply_stream(&g, text);
    add(&g, text->out, text->size);
    finish(&g, text, tag);
}

bool sev_gcm_open(const uint8_t *key, const uint8_t *iv, const SevGcmText *text,
                  const uint8_t *tag)
{
    uint8_t expected[SEV_GCM_TAG_SIZE], difference = 0;
    Gcm g;

    start(&g, key, iv);
    add(&g, text->aad, text->aad_size);
    add(&g, text->in, text->size);
    apply_stream(&g, text);
    finish(&g, text, expected);
    for (int i = 0; i < SEV_GCM_TAG_SIZE; i++) {
        difference |= expected[i] ^ tag[i];
    }
    if (difference) {
        memset(text->out, 0, text->size);
    }
    return !difference;
}
