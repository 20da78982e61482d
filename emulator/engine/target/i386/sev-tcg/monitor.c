/*
 * AMD SEV for guests that TCG runs: monitor commands
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc-target.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "system/tcg.h"
#include "firmware.h"
#include "internal.h"

#define DEFAULT_CBITPOS 51
#define DEFAULT_REDUCED_PHYS_BITS 1

static SevTcgCommon *guest_or_error(Error **errp)
{
    SevTcgCommon *sev = sev_tcg_common();

    if (!sev) {
        error_setg(errp, "SEV is not enabled in this guest");
    }
    return sev;
}

SevInfo *qmp_query_sev(Error **errp)
{
    SevTcgCommon *sev = guest_or_error(errp);
    SevInfo *info;

    if (!sev) {
        return NULL;
    }
    info = g_new0(SevInfo, 1);
    info->enabled = soc_cache_active();
    info->api_major = sev_firmware_platform.current[2];
    info->api_minor = sev_firmware_platform.current[1];
    info->build_id = sev_firmware_platform.current[0];
    info->state = sev->launched ? SEV_STATE_RUNNING : SEV_STATE_LAUNCH_UPDATE;
    if (sev_snp_tcg_guest()) {
        info->sev_type = SEV_GUEST_TYPE_SEV_SNP;
        info->u.sev_snp.snp_policy = sev_snp_tcg_guest()->policy;
    } else {
        info->sev_type = SEV_GUEST_TYPE_SEV;
        info->u.sev.policy = sev_tcg_guest()->policy;
        info->u.sev.handle = 1;
    }
    return info;
}

/*
 * Answers without a guest too, as on hardware.  There is no firmware: the
 * certificates and the processor's identity are empty.
 */
SevCapability *qmp_query_sev_capabilities(Error **errp)
{
    SevTcgCommon *sev = sev_tcg_common();
    SevCapability *cap;

    if (!tcg_enabled()) {
        error_setg(errp, "SEV is emulated under TCG only");
        return NULL;
    }
    cap = g_new0(SevCapability, 1);
    cap->pdh = g_strdup("");
    cap->cert_chain = g_strdup("");
    cap->cpu0_id = g_strdup("");
    cap->cbitpos = sev ? sev->cbitpos : DEFAULT_CBITPOS;
    cap->reduced_phys_bits = sev ? sev->reduced_phys_bits
                                 : DEFAULT_REDUCED_PHYS_BITS;
    return cap;
}

SevLaunchMeasureInfo *qmp_query_sev_launch_measure(Error **errp)
{
    error_setg(errp, "emulated SEV has no session key to sign a measurement"
               " with: read the object's launch-digest");
    return NULL;
}

void qmp_sev_inject_launch_secret(const char *packet_header, const char *secret,
                                  bool has_gpa, uint64_t gpa, Error **errp)
{
    error_setg(errp, "emulated SEV has no firmware: no launch secrets");
}

SevAttestationReport *qmp_query_sev_attestation_report(const char *mnonce,
                                                       Error **errp)
{
    error_setg(errp, "emulated SEV has no firmware: no attestation report");
    return NULL;
}

void hmp_info_sev(Monitor *mon, const QDict *qdict)
{
    SevTcgCommon *sev = sev_tcg_common();
    SocCacheStats stats;

    if (!sev) {
        monitor_printf(mon, "SEV is not enabled\n");
        return;
    }
    soc_cache_get_stats(&stats);
    monitor_printf(mon, "SEV type: %s (emulated)\n"
                   "state: %s\npolicy: 0x%" PRIx64 "\nC-bit: %u\n"
                   "cache: %s, %s\n"
                   "resident: %" PRIu64 " encryptions: %" PRIu64
                   " decryptions: %" PRIu64 " evictions: %" PRIu64 "\n",
                   sev_snp_enabled() ? "sev-snp"
                   : sev_es_enabled() ? "sev-es" : "sev",
                   sev->launched ? "running" : "launch-update",
                   sev_snp_enabled() ? sev_snp_tcg_guest()->policy
                                     : sev_tcg_guest()->policy, sev->cbitpos,
                   soc_cache_secret() ? "memfd_secret" : "dontdump",
                   soc_cache_aesni() ? "aesni" : "portable", stats.resident,
                   stats.encryptions, stats.decryptions, stats.evictions);
}
