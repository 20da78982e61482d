/*
 * AES-128 XEX page cipher of the emulated memory controller
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The bytes are those of AES-128-XTS (IEEE 1619) with 4096-byte data units
 * whose number is the page number in DRAM, so that any XTS library can check
 * them.  This header and its source build outside QEMU too (unit test).
 */
#ifndef EXEC_SOC_XEX_H
#define EXEC_SOC_XEX_H

#include <stdbool.h>
#include <stdint.h>

#define SOC_XEX_PAGE_SIZE 4096
#define SOC_XEX_KEY_SIZE 32

typedef struct SocXex {
    /* Round keys as FIPS-197 writes them; dec is the equivalent inverse. */
    uint8_t data_enc[11][16] __attribute__((aligned(64)));
    uint8_t data_dec[11][16] __attribute__((aligned(16)));
    uint8_t tweak_enc[11][16] __attribute__((aligned(16)));
    bool aesni;
    bool wide;              /* AES-NI with registers of two blocks (VAES) */
} SocXex;

/* Can this processor run the AES-NI path, and the one with VAES? */
bool soc_xex_have_aesni(void);
bool soc_xex_have_vaes(void);

/*
 * Expand @key (data key, then tweak key).  @aesni asks for the fastest path,
 * which is VAES if the processor has it.
 */
void soc_xex_init(SocXex *xex, const uint8_t key[SOC_XEX_KEY_SIZE],
                  bool aesni);

/* @dst may equal @src; both are page aligned; @page is the DRAM page number. */
void soc_xex_encrypt_page(const SocXex *xex, void *dst, const void *src,
                          uint64_t page);
void soc_xex_decrypt_page(const SocXex *xex, void *dst, const void *src,
                          uint64_t page);

#endif /* EXEC_SOC_XEX_H */
