/*
 * SEV-SNP attestation reports, and the identity block
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SEV-SNP firmware ABI (56860): ATTESTATION_REPORT, version 3; ID Block and ID
 * Authentication Information Structure.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "firmware.h"
#include "internal.h"
#include "report.h"

#define REPORT_VERSION 3
#define ECDSA_P384_SHA384 1

#define AUTHOR_KEY_ENABLED 1

bool sev_report_make(const uint8_t *report_data, uint32_t vmpl, uint8_t *r)
{
    const SevGuestContext *c = sev_tcg_context;
    const SevPlatform *p = &sev_firmware_platform;
    SevSnpTcgGuest *sev = sev_snp_tcg_guest();
    g_autofree uint8_t *signature = NULL;
    size_t size = 0;

    memset(r, 0, SEV_REPORT_SIZE);
    stl_le_p(r, REPORT_VERSION);
    stl_le_p(r + 0x004, c->guest_svn);
    stq_le_p(r + 0x008, c->policy);
    memcpy(r + 0x010, c->family_id, 16);
    memcpy(r + 0x020, c->image_id, 16);
    stl_le_p(r + 0x030, vmpl);
    stl_le_p(r + 0x034, ECDSA_P384_SHA384);
    memcpy(r + 0x038, &p->current_tcb, 8);
    memcpy(r + 0x040, &p->platform_info, 8);
    stl_le_p(r + 0x048, sev->author_key_enabled ? AUTHOR_KEY_ENABLED : 0);
    memcpy(r + 0x050, report_data, 64);
    memcpy(r + 0x090, c->digest, 48);
    memcpy(r + 0x0c0, c->host_data, 32);
    memcpy(r + 0x0e0, c->id_key_digest, 48);
    memcpy(r + 0x110, c->author_key_digest, 48);
    memcpy(r + 0x140, c->report_id, 32);
    memset(r + 0x160, 0xff, 32);        /* no migration agent */
    memcpy(r + 0x180, &p->reported_tcb, 8);
    r[0x188] = p->family;
    r[0x189] = p->model;
    r[0x18a] = p->stepping;
    memcpy(r + 0x1a0, p->chip_id, SEV_CHIP_ID_SIZE);
    memcpy(r + 0x1e0, &p->committed_tcb, 8);
    memcpy(r + 0x1e8, p->current, 3);
    memcpy(r + 0x1ec, p->committed, 3);
    memcpy(r + 0x1f0, &p->launch_tcb, 8);

    signature = sev_firmware_ask(SEV_FIRMWARE_SIGN, r, SEV_SIGNED_SIZE, &size);
    if (!signature || size != SEV_SIGNATURE_SIZE) {
        return false;
    }
    memcpy(r + SEV_SIGNED_SIZE, signature, SEV_SIGNATURE_SIZE);
    return true;
}

void sev_report_identity(uint8_t *identity)
{
    const SevGuestContext *c = sev_tcg_context;

    memset(identity, 0, SEV_REPORT_IDENTITY_SIZE);
    memcpy(identity, c->digest, 48);
    memcpy(identity + 48, c->host_data, 32);
    memcpy(identity + 80, c->id_key_digest, 48);
    memcpy(identity + 128, c->author_key_digest, 48);
    memcpy(identity + 176, c->family_id, 16);
    memcpy(identity + 192, c->image_id, 16);
    stl_le_p(identity + 208, c->guest_svn);
    stq_le_p(identity + 216, c->policy);
}

/* ---- the identity block: what the owner signed ---- */

#define KEY_SIZE 0x404
#define AT_ID_KEY 0x240
#define AT_AUTHOR_KEY 0x880

static void sha384(const void *data, size_t size, uint8_t *digest)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA384);
    size_t length = 48;

    g_checksum_update(sum, data, size);
    g_checksum_get_digest(sum, digest, &length);
}

/* Does the owner's signature hold?  The firmware model can tell. */
static bool check_signatures(const SevSnpTcgGuest *sev, Error **errp)
{
    g_autofree uint8_t *question = g_malloc(96 + 4096 + 1);
    g_autofree uint8_t *answer = NULL;
    size_t size = 0;

    memcpy(question, sev->id_block, 96);
    memcpy(question + 96, sev->id_auth, 4096);
    question[96 + 4096] = sev->author_key_enabled;
    answer = sev_firmware_ask(SEV_FIRMWARE_CHECK_ID, question, 96 + 4096 + 1,
                              &size);
    if (!answer || size != 4) {
        error_setg(errp, "id-block: nobody to check its signature: give"
                   " firmware-socket");
    } else if (ldl_le_p(answer)) {
        error_setg(errp, "id-auth: LAUNCH_FINISH fails with BAD_SIGNATURE");
    } else {
        return true;
    }
    return false;
}

/* LAUNCH_FINISH. */
bool sev_tcg_context_finish(Error **errp)
{
    SevSnpTcgGuest *sev = sev_snp_tcg_guest();
    SevGuestContext *c = sev_tcg_context;
    const uint8_t *block = sev->id_block;

    if (!sev->have_id_block) {
        return true;
    }
    if (memcmp(block, c->digest, 48)) {
        error_setg(errp, "id-block: LAUNCH_FINISH fails with BAD_MEASUREMENT:"
                   " the launch digest is another one");
        return false;
    }
    if (ldq_le_p(block + 0x58) != c->policy) {
        error_setg(errp, "id-block: LAUNCH_FINISH fails with POLICY_FAILURE:"
                   " its policy is another one");
        return false;
    }
    if (!check_signatures(sev, errp)) {
        return false;
    }
    memcpy(c->family_id, block + 0x30, 16);
    memcpy(c->image_id, block + 0x40, 16);
    c->guest_svn = ldl_le_p(block + 0x54);
    sha384(sev->id_auth + AT_ID_KEY, KEY_SIZE, c->id_key_digest);
    if (sev->author_key_enabled) {
        sha384(sev->id_auth + AT_AUTHOR_KEY, KEY_SIZE, c->author_key_digest);
    }
    return true;
}
