/*
 * AES-256-GCM for the messages between an SNP guest and the firmware
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_GCM_H
#define SEV_TCG_GCM_H

#define SEV_GCM_KEY_SIZE 32
#define SEV_GCM_IV_SIZE 12
#define SEV_GCM_TAG_SIZE 16

typedef struct SevGcmText {
    const uint8_t *aad;
    size_t aad_size;
    const uint8_t *in;
    uint8_t *out;               /* may equal @in */
    size_t size;
} SevGcmText;

void sev_gcm_seal(const uint8_t *key, const uint8_t *iv, const SevGcmText *text,
                  uint8_t *tag);
/* False, and @out is cleared, if @tag is not the text's. */
bool sev_gcm_open(const uint8_t *key, const uint8_t *iv, const SevGcmText *text,
                  const uint8_t *tag);

#endif /* SEV_TCG_GCM_H */
