/*
 * AES-128 XEX page cipher of the emulated memory controller
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Three paths with the same bytes: VAES with sixteen blocks in flight, AES-NI
 * with eight, and a portable one built on tables that are computed at start.
 * None is meant to resist a cache-timing attacker: the host owns this process
 * anyway.
 */
#ifndef SOC_XEX_STANDALONE
#include "qemu/osdep.h"
#endif
#include <string.h>
#include "exec/soc-xex.h"

#define BLOCKS (SOC_XEX_PAGE_SIZE / 16)
#define ROUNDS 10

/* ---- tables (FIPS-197 sections 4.2, 5.1) ---- */

static uint8_t sbox[256], inv_sbox[256];
static uint32_t enc_table[256], dec_table[256];
static bool tables_ready;

static uint8_t gf_double(uint8_t a)
{
    return (a << 1) ^ (a & 0x80 ? 0x1b : 0);
}

static uint8_t gf_mul(uint8_t a, uint8_t b)
{
    uint8_t product = 0;

    for (; b; b >>= 1, a = gf_double(a)) {
        if (b & 1) {
            product ^= a;
        }
    }
    return product;
}

static uint32_t column(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return a | (uint32_t)b << 8 | (uint32_t)c << 16 | (uint32_t)d << 24;
}

static void make_tables(void)
{
    uint8_t power = 1, inverse = 1;

    if (tables_ready) {
        return;
    }
    /* 3 generates the field's group and 0xf6 is its inverse. */
    do {
        uint8_t x = inverse, s = 0x63;

        for (int i = 0; i < 5; i++) {
            s ^= x;
            x = x << 1 | x >> 7;
        }
        sbox[power] = s;
        power = gf_mul(power, 3);
        inverse = gf_mul(inverse, 0xf6);
    } while (power != 1);
    sbox[0] = 0x63;
    for (int i = 0; i < 256; i++) {
        inv_sbox[sbox[i]] = i;
    }
    for (int i = 0; i < 256; i++) {
        uint8_t s = sbox[i], v = inv_sbox[i];

        enc_table[i] = column(gf_mul(s, 2), s, s, gf_mul(s, 3));
        dec_table[i] = column(gf_mul(v, 14), gf_mul(v, 9),
                              gf_mul(v, 13), gf_mul(v, 11));
    }
    tables_ready = true;
}

/* ---- key schedule (section 5.2), shared by both paths ---- */

static void expand_key(uint8_t round_keys[11][16], const uint8_t key[16])
{
    uint8_t *w = round_keys[0], rcon = 1;

    memcpy(w, key, 16);
    for (int i = 16; i < 16 * (ROUNDS + 1); i += 4) {
        uint8_t t[4];

        memcpy(t, w + i - 4, 4);
        if (i % 16 == 0) {
            uint8_t first = t[0];

            t[0] = sbox[t[1]] ^ rcon;
            t[1] = sbox[t[2]];
            t[2] = sbox[t[3]];
            t[3] = sbox[first];
            rcon = gf_double(rcon);
        }
        for (int j = 0; j < 4; j++) {
            w[i + j] = w[i + j - 16] ^ t[j];
        }
    }
}

static void invert_key(uint8_t dec[11][16], const uint8_t enc[11][16])
{
    for (int r = 0; r <= ROUNDS; r++) {
        memcpy(dec[r], enc[ROUNDS - r], 16);
        if (r == 0 || r == ROUNDS) {
            continue;
        }
        for (int c = 0; c < 16; c += 4) {
            uint32_t x = 0;

            for (int i = 0; i < 4; i++) {
                uint32_t t = dec_table[sbox[dec[r][c + i]]];
                x ^= i ? t << 8 * i | t >> (32 - 8 * i) : t;
            }
            for (int i = 0; i < 4; i++) {
                dec[r][c + i] = x >> 8 * i;
            }
        }
    }
}

/* ---- portable path ---- */

static uint32_t load32(const uint8_t *p)
{
    return column(p[0], p[1], p[2], p[3]);
}

static void store32(uint8_t *p, uint32_t x)
{
    p[0] = x;
    p[1] = x >> 8;
    p[2] = x >> 16;
    p[3] = x >> 24;
}

static uint64_t load64(const uint8_t *p)
{
    return load32(p) | (uint64_t)load32(p + 4) << 32;
}

static void store64(uint8_t *p, uint64_t x)
{
    store32(p, x);
    store32(p + 4, x >> 32);
}

static uint32_t rotate(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

/*
 * One block.  @shift is 1 for ShiftRows, 3 for its inverse: output column c
 * takes row r from input column c + shift * r.
 */
static void aes_block(uint8_t block[16], const uint8_t keys[11][16],
                      const uint32_t table[256], const uint8_t last[256],
                      int shift)
{
    uint32_t s[4], t[4];

    for (int c = 0; c < 4; c++) {
        s[c] = load32(block + 4 * c) ^ load32(keys[0] + 4 * c);
    }
    for (int r = 1; r < ROUNDS; r++) {
        for (int c = 0; c < 4; c++) {
            t[c] = table[s[c] & 0xff]
                ^ rotate(table[s[(c + shift) % 4] >> 8 & 0xff], 8)
                ^ rotate(table[s[(c + 2 * shift) % 4] >> 16 & 0xff], 16)
                ^ rotate(table[s[(c + 3 * shift) % 4] >> 24], 24)
                ^ load32(keys[r] + 4 * c);
        }
        memcpy(s, t, sizeof(s));
    }
    for (int c = 0; c < 4; c++) {
        t[c] = column(last[s[c] & 0xff],
                      last[s[(c + shift) % 4] >> 8 & 0xff],
                      last[s[(c + 2 * shift) % 4] >> 16 & 0xff],
                      last[s[(c + 3 * shift) % 4] >> 24]);
        store32(block + 4 * c, t[c] ^ load32(keys[ROUNDS] + 4 * c));
    }
}

static void portable_page(const SocXex *xex, uint8_t *dst, const uint8_t *src,
                          uint64_t page, bool encrypt)
{
    uint8_t tweak[16] = { 0 }, block[16];
    uint64_t lo, hi;

    store64(tweak, page);
    aes_block(tweak, xex->tweak_enc, enc_table, sbox, 1);
    lo = load64(tweak);
    hi = load64(tweak + 8);
    for (int i = 0; i < BLOCKS; i++, src += 16, dst += 16) {
        uint64_t carry = hi >> 63;

        store64(block, load64(src) ^ lo);
        store64(block + 8, load64(src + 8) ^ hi);
        if (encrypt) {
            aes_block(block, xex->data_enc, enc_table, sbox, 1);
        } else {
            aes_block(block, xex->data_dec, dec_table, inv_sbox, 3);
        }
        store64(dst, load64(block) ^ lo);
        store64(dst + 8, load64(block + 8) ^ hi);
        hi = hi << 1 | lo >> 63;
        lo = lo << 1 ^ (carry ? 0x87 : 0);
    }
}

/* ---- AES-NI path ---- */

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define AESNI __attribute__((target("aes,sse4.1")))
#define LANES 8

bool soc_xex_have_aesni(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1");
}

static inline AESNI __m128i double_tweak(__m128i t)
{
    const __m128i poly = _mm_set_epi32(0, 1, 0, 0x87);
    __m128i carry = _mm_srai_epi32(_mm_shuffle_epi32(t, 0x13), 31);

    return _mm_xor_si128(_mm_add_epi64(t, t), _mm_and_si128(carry, poly));
}

static inline AESNI __m128i first_tweak(const SocXex *xex, uint64_t page)
{
    const __m128i *k = (const __m128i *)xex->tweak_enc;
    __m128i t = _mm_xor_si128(_mm_set_epi64x(0, page), k[0]);

    for (int r = 1; r < ROUNDS; r++) {
        t = _mm_aesenc_si128(t, k[r]);
    }
    return _mm_aesenclast_si128(t, k[ROUNDS]);
}

/* Always inlined with a constant @encrypt, so that the branch disappears. */
static inline __attribute__((always_inline)) AESNI
void aesni_page(const SocXex *xex, __m128i *dst, const __m128i *src,
                uint64_t page, bool encrypt)
{
    const __m128i *k = (const __m128i *)(encrypt ? xex->data_enc
                                                 : xex->data_dec);
    __m128i tweak = first_tweak(xex, page);

    for (int i = 0; i < BLOCKS; i += LANES) {
        __m128i t[LANES], b[LANES];

#pragma GCC unroll 8
        for (int j = 0; j < LANES; j++) {
            t[j] = tweak;
            tweak = double_tweak(tweak);
            b[j] = _mm_xor_si128(_mm_xor_si128(src[i + j], t[j]), k[0]);
        }
#pragma GCC unroll 10
        for (int r = 1; r < ROUNDS; r++) {
#pragma GCC unroll 8
            for (int j = 0; j < LANES; j++) {
                b[j] = encrypt ? _mm_aesenc_si128(b[j], k[r])
                               : _mm_aesdec_si128(b[j], k[r]);
            }
        }
#pragma GCC unroll 8
        for (int j = 0; j < LANES; j++) {
            b[j] = encrypt ? _mm_aesenclast_si128(b[j], k[ROUNDS])
                           : _mm_aesdeclast_si128(b[j], k[ROUNDS]);
            dst[i + j] = _mm_xor_si128(b[j], t[j]);
        }
    }
}

static AESNI void aesni_encrypt(const SocXex *xex, void *dst, const void *src,
                                uint64_t page)
{
    aesni_page(xex, dst, src, page, true);
}

static AESNI void aesni_decrypt(const SocXex *xex, void *dst, const void *src,
                                uint64_t page)
{
    aesni_page(xex, dst, src, page, false);
}

/* ---- VAES path: two blocks in each register ---- */

#define VAES __attribute__((target("vaes,vpclmulqdq,avx2,aes,sse4.1")))
#define VECTORS 8

bool soc_xex_have_vaes(void)
{
    return soc_xex_have_aesni() && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("vaes") &&
           __builtin_cpu_supports("vpclmulqdq");
}

/*
 * Both tweaks times x^2, since each register goes on two blocks.  The two bits
 * that leave the lower half enter the upper one; those that leave the upper
 * half come back as their product with the field's polynomial.
 */
static inline VAES __m256i quadruple_tweaks(__m256i t)
{
    const __m256i poly = _mm256_set1_epi64x(0x87);
    __m256i out = _mm256_srli_epi64(t, 62);
    __m256i back = _mm256_clmulepi64_epi128(out, poly, 0x01);

    t = _mm256_xor_si256(_mm256_slli_epi64(t, 2), _mm256_slli_si256(out, 8));
    return _mm256_xor_si256(t, back);
}

/* As aesni_page. */
static inline __attribute__((always_inline)) VAES
void vaes_page(const SocXex *xex, __m256i *dst, const __m256i *src,
               uint64_t page, bool encrypt)
{
    const __m128i *keys = (const __m128i *)(encrypt ? xex->data_enc
                                                    : xex->data_dec);
    __m128i first = first_tweak(xex, page);
    __m256i tweak = _mm256_set_m128i(double_tweak(first), first);

    for (int i = 0; i < BLOCKS / 2; i += VECTORS) {
        __m256i t[VECTORS], b[VECTORS];
        __m256i k = _mm256_broadcastsi128_si256(keys[0]);

#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; j++) {
            t[j] = tweak;
            tweak = quadruple_tweaks(tweak);
            b[j] = _mm256_xor_si256(_mm256_loadu_si256(&src[i + j]),
                                    _mm256_xor_si256(t[j], k));
        }
#pragma GCC unroll 10
        for (int r = 1; r < ROUNDS; r++) {
            k = _mm256_broadcastsi128_si256(keys[r]);
#pragma GCC unroll 8
            for (int j = 0; j < VECTORS; j++) {
                b[j] = encrypt ? _mm256_aesenc_epi128(b[j], k)
                               : _mm256_aesdec_epi128(b[j], k);
            }
        }
        k = _mm256_broadcastsi128_si256(keys[ROUNDS]);
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; j++) {
            b[j] = encrypt ? _mm256_aesenclast_epi128(b[j], k)
                           : _mm256_aesdeclast_epi128(b[j], k);
            _mm256_storeu_si256(&dst[i + j], _mm256_xor_si256(b[j], t[j]));
        }
    }
}

static VAES void vaes_encrypt(const SocXex *xex, void *dst, const void *src,
                              uint64_t page)
{
    vaes_page(xex, dst, src, page, true);
}

static VAES void vaes_decrypt(const SocXex *xex, void *dst, const void *src,
                              uint64_t page)
{
    vaes_page(xex, dst, src, page, false);
}

#else

bool soc_xex_have_aesni(void)
{
    return false;
}

bool soc_xex_have_vaes(void)
{
    return false;
}

static void vaes_encrypt(const SocXex *xex, void *dst, const void *src,
                         uint64_t page)
{
    portable_page(xex, dst, src, page, true);
}

static void vaes_decrypt(const SocXex *xex, void *dst, const void *src,
                         uint64_t page)
{
    portable_page(xex, dst, src, page, false);
}

static void aesni_encrypt(const SocXex *xex, void *dst, const void *src,
                          uint64_t page)
{
    portable_page(xex, dst, src, page, true);
}

static void aesni_decrypt(const SocXex *xex, void *dst, const void *src,
                          uint64_t page)
{
    portable_page(xex, dst, src, page, false);
}

#endif

/* ---- interface ---- */

void soc_xex_init(SocXex *xex, const uint8_t key[SOC_XEX_KEY_SIZE], bool aesni)
{
    make_tables();
    expand_key(xex->data_enc, key);
    invert_key(xex->data_dec, (const uint8_t (*)[16])xex->data_enc);
    expand_key(xex->tweak_enc, key + 16);
    xex->aesni = aesni && soc_xex_have_aesni();
    xex->wide = xex->aesni && soc_xex_have_vaes();
}

void soc_xex_encrypt_page(const SocXex *xex, void *dst, const void *src,
                          uint64_t page)
{
    if (xex->wide) {
        vaes_encrypt(xex, dst, src, page);
    } else if (xex->aesni) {
        aesni_encrypt(xex, dst, src, page);
    } else {
        portable_page(xex, dst, src, page, true);
    }
}

void soc_xex_decrypt_page(const SocXex *xex, void *dst, const void *src,
                          uint64_t page)
{
    if (xex->wide) {
        vaes_decrypt(xex, dst, src, page);
    } else if (xex->aesni) {
        aesni_decrypt(xex, dst, src, page);
    } else {
        portable_page(xex, dst, src, page, false);
    }
}
