/*
 * Launch measurement, and the table of hashes of what QEMU boots directly
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SEV-SNP: SEV-SNP firmware ABI (56860), PAGE_INFO.  SEV: the plain SHA-256 of
 * what is loaded, that is the LD that LAUNCH_MEASURE signs.
 */
#include "qemu/osdep.h"
#include "qemu/uuid.h"
#include "qapi/error.h"
#include "hw/i386/pc.h"
#include "digest.h"

#define DIGEST_SIZE 48
#define PAGE_INFO_SIZE 0x70

static GChecksum *legacy;

static void sha384(const void *data, size_t size, uint8_t *digest)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA384);
    size_t length = DIGEST_SIZE;

    g_checksum_update(sum, data, size);
    g_checksum_get_digest(sum, digest, &length);
}

void sev_tcg_measure(SevPageType type, uint64_t gpa, const uint8_t *contents)
{
    uint8_t info[PAGE_INFO_SIZE] = { 0 };

    memcpy(info, sev_tcg_context->digest, DIGEST_SIZE);
    if (contents) {
        sha384(contents, SEV_PAGE_SIZE, info + 0x30);
    }
    stw_le_p(info + 0x60, PAGE_INFO_SIZE);
    info[0x62] = type;
    stq_le_p(info + 0x68, gpa);
    sha384(info, sizeof(info), sev_tcg_context->digest);
}

void sev_tcg_measure_bytes(const void *data, size_t size)
{
    if (!legacy) {
        legacy = g_checksum_new(G_CHECKSUM_SHA256);
    }
    g_checksum_update(legacy, data, size);
}

char *sev_tcg_launch_digest(void)
{
    GString *text = g_string_new(NULL);

    if (sev_tcg_context) {
        for (int i = 0; i < DIGEST_SIZE; i++) {
            g_string_append_printf(text, "%02x", sev_tcg_context->digest[i]);
        }
    } else if (legacy) {
        g_autoptr(GChecksum) copy = g_checksum_copy(legacy);

        g_string_append(text, g_checksum_get_string(copy));
    }
    return g_string_free(text, false);
}

/* ---- kernel-hashes=on ---- */

#define TABLE_AREA_GUID "7255371f-3a3b-4b04-927b-1da6efa8d454"
#define TABLE_GUID "9438d606-4f22-4cc9-b479-a793d411fd21"
#define KERNEL_GUID "4de79437-abd2-427f-b835-d5b172d2045b"
#define INITRD_GUID "44baf731-3a2f-4bd7-9af1-41e29169781d"
#define CMDLINE_GUID "97d02dd8-bd20-4c94-aa78-e7714d36ab2a"

#define HASH_SIZE 32
#define HEAD_SIZE 18            /* GUID and length */
#define ENTRY_SIZE (HEAD_SIZE + HASH_SIZE)
#define TABLE_SIZE (HEAD_SIZE + 3 * ENTRY_SIZE)
#define PADDED_TABLE_SIZE ROUND_UP(TABLE_SIZE, 16)

static uint8_t table[PADDED_TABLE_SIZE];
static uint32_t table_base;

static uint8_t *put_head(uint8_t *p, const char *guid, uint16_t size)
{
    QemuUUID uuid;

    qemu_uuid_parse(guid, &uuid);
    uuid = qemu_uuid_bswap(uuid);
    memcpy(p, &uuid, sizeof(uuid));
    stw_le_p(p + sizeof(uuid), size);
    return p + HEAD_SIZE;
}

static uint8_t *put_hash(uint8_t *p, const char *guid, const void *data,
                         size_t size)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    size_t length = HASH_SIZE;

    p = put_head(p, guid, ENTRY_SIZE);
    g_checksum_update(sum, data, size);
    g_checksum_get_digest(sum, p, &length);
    return p + HASH_SIZE;
}

static void hash_kernel(uint8_t *p, const SevKernelLoaderContext *ctx)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    size_t length = HASH_SIZE;

    p = put_head(p, KERNEL_GUID, ENTRY_SIZE);
    g_checksum_update(sum, (uint8_t *)ctx->setup_data, ctx->setup_size);
    g_checksum_update(sum, (uint8_t *)ctx->kernel_data, ctx->kernel_size);
    g_checksum_get_digest(sum, p, &length);
}

bool sev_add_kernel_loader_hashes(SevKernelLoaderContext *ctx, Error **errp)
{
    SevTcgCommon *sev = sev_tcg_common();
    uint8_t *area, *p;
    int length;

    if (!sev->kernel_hashes) {
        return false;
    }
    if (!pc_system_ovmf_table_find(TABLE_AREA_GUID, &area, &length) ||
        length < 8 || !ldl_le_p(area) || ldl_le_p(area + 4) < TABLE_SIZE) {
        error_setg(errp, "kernel-hashes=on: the firmware has no place for the"
                   " hashes of kernel, initrd and command line");
        return false;
    }
    table_base = ldl_le_p(area);
    p = put_head(table, TABLE_GUID, TABLE_SIZE);
    p = put_hash(p, CMDLINE_GUID, ctx->cmdline_data, ctx->cmdline_size);
    p = put_hash(p, INITRD_GUID, ctx->initrd_data ?: "", ctx->initrd_size);
    hash_kernel(p, ctx);
    return true;
}

void sev_tcg_load_hashes(uint8_t *ram)
{
    if (table_base) {
        soc_cache_launch_write(ram + table_base, table, PADDED_TABLE_SIZE);
        sev_tcg_measure_bytes(table, PADDED_TABLE_SIZE);
    }
}

bool sev_tcg_hash_page(uint64_t gpa, uint8_t *page)
{
    uint64_t offset = table_base - gpa;

    if (!table_base || offset > SEV_PAGE_SIZE - PADDED_TABLE_SIZE) {
        return false;
    }
    memcpy(page + offset, table, PADDED_TABLE_SIZE);
    return true;
}
