/*
 * The firmware model: another process that signs, behind a Unix socket
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Frames: u32 length of what follows (little-endian), u8 kind, payload.
 */
#ifndef SEV_TCG_FIRMWARE_H
#define SEV_TCG_FIRMWARE_H

#define SEV_FIRMWARE_SIGN 1
#define SEV_FIRMWARE_CERTIFICATES 2
#define SEV_FIRMWARE_DERIVE 3
#define SEV_FIRMWARE_PLATFORM 4
#define SEV_FIRMWARE_CHECK_ID 5
#define SEV_FIRMWARE_ERROR 0xff

#define SEV_CHIP_ID_SIZE 64
#define SEV_SIGNED_SIZE 0x2a0
#define SEV_SIGNATURE_SIZE 512

/* Answer to SEV_FIRMWARE_PLATFORM; all zero without a firmware model. */
typedef struct QEMU_PACKED SevPlatform {
    uint8_t chip_id[SEV_CHIP_ID_SIZE];
    uint64_t reported_tcb, committed_tcb, current_tcb, launch_tcb;
    uint64_t platform_info;
    uint8_t family, model, stepping;
    /* build, minor, major of the current, then of the committed version */
    uint8_t current[3], committed[3];
} SevPlatform;

extern SevPlatform sev_firmware_platform;

/* Connect, and ask what platform it is; nothing without a path. */
bool sev_firmware_connect(const char *path, Error **errp);

/*
 * One question, one answer.  Returns the answer's payload of *@answer_size
 * bytes, to be freed, or NULL with a message on standard error.
 */
uint8_t *sev_firmware_ask(uint8_t kind, const void *payload, size_t size,
                          size_t *answer_size);

#endif /* SEV_TCG_FIRMWARE_H */
