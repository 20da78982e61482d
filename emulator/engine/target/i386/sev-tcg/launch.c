/*
 * SEV-SNP and SEV-ES: the pages that a guest starts with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In QEMU's order: the firmware image, the sections that its metadata name,
 * the save areas.  There the guest's memory is encrypted, measured and given
 * to it as validated.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86.h"
#include "system/reset.h"
#include "digest.h"

#define RESET_BLOCK_GUID "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
#define METADATA_GUID "dc886566-984a-4798-A75e-5585a7bf67cc"
#define BSP_ENTRY 0xfffffff0u
#define MAX_SECTIONS 32

/* Where QEMU measures the save areas. */
#define VMSA_GPA 0xfffffffff000ull

typedef enum SectionType {
    SECTION_SEC_MEM = 1,
    SECTION_SECRETS = 2,
    SECTION_CPUID = 3,
    SECTION_SVSM_CAA = 4,
    SECTION_KERNEL_HASHES = 0x10,
} SectionType;

typedef struct Section {
    uint32_t base, size, type;
} Section;

static Section sections[MAX_SECTIONS];
static unsigned nsections;
static uint32_t ap_entry;
static bool have_metadata;

/* ---- what the firmware image says (called while it is loaded) ---- */

void pc_system_parse_sev_metadata(uint8_t *flash, size_t size)
{
    uint8_t *data, *table;
    uint32_t offset;

    if (!pc_system_ovmf_table_find(METADATA_GUID, &data, NULL)) {
        return;
    }
    offset = ldl_le_p(data);
    if (offset < 16 || offset > size || memcmp(flash + size - offset, "ASEV", 4)) {
        warn_report("SEV: the metadata of the firmware image cannot be read");
        return;
    }
    table = flash + size - offset;
    nsections = ldl_le_p(table + 12);
    if (nsections > MAX_SECTIONS || 16 + 12 * nsections > offset) {
        warn_report("SEV: the metadata of the firmware image cannot be read");
        nsections = 0;
        return;
    }
    for (unsigned i = 0; i < nsections; i++) {
        const uint8_t *e = table + 16 + 12 * i;

        sections[i] = (Section) {
            ldl_le_p(e), ldl_le_p(e + 4), ldl_le_p(e + 8),
        };
    }
    have_metadata = true;
}

int sev_es_save_reset_vector(void *flash, uint64_t size)
{
    uint8_t *data;

    if (pc_system_ovmf_table_find(RESET_BLOCK_GUID, &data, NULL)) {
        ap_entry = ldl_le_p(data);
    }
    if (sev_es_enabled() && !ap_entry) {
        error_report("SEV-ES: the firmware names no entry point for further"
                     " vCPUs (reset block)");
        return 1;
    }
    return 0;
}

/* Further vCPUs of SEV-ES guests start where the firmware says. */
void sev_es_set_reset_vector(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);

    if (!sev_es_enabled() || cs->cpu_index == 0) {
        return;
    }
    cpu_x86_load_seg_cache(env, R_CS, 0xf000, ap_entry & 0xffff0000, 0xffff,
                           DESC_P_MASK | DESC_S_MASK | DESC_CS_MASK |
                           DESC_R_MASK | DESC_A_MASK);
    env->eip = ap_entry & 0xffff;
}

static void after_reset(void *opaque)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        sev_es_set_reset_vector(cs);
        cpu_env(cs)->sev = (SevVcpu) {
            .registered_ghcb = SEV_NO_ADDRESS, .hold_ghcb = SEV_NO_ADDRESS,
        };
    }
}

/* ---- contents of special pages ---- */

/* SEV-SNP firmware ABI, secrets page. */
static void fill_secrets(uint8_t *page)
{
    SevSnpTcgGuest *sev = sev_snp_tcg_guest();

    stl_le_p(page, 3);
    stl_le_p(page + 0x08, cpu_env(first_cpu)->cpuid_version);
    memcpy(page + 0x10, sev->guest_visible_workarounds,
           sizeof(sev->guest_visible_workarounds));
    for (int i = 0; i < SEV_VMPLS; i++) {
        memcpy(page + 0x20 + i * SEV_VMPCK_SIZE, sev_tcg_context->vmpck[i],
               SEV_VMPCK_SIZE);
    }
}

/* SEV-SNP firmware ABI, CPUID page: one entry of the table. */
typedef struct QEMU_PACKED CpuidEntry {
    uint32_t function, index;
    uint64_t xcr0, xss;
    uint32_t eax, ebx, ecx, edx;
    uint64_t reserved;
} CpuidEntry;

#define MAX_CPUID_ENTRIES 64
#define CPUID_HEADER_SIZE 16

/* The size of the XSAVE area with XCR0 = 1, as the firmware wants it. */
#define XSAVE_LEGACY_SIZE 0x240

static void add_cpuid(uint8_t *page, unsigned *count, uint32_t function,
                      uint32_t index)
{
    CpuidEntry e = { .function = function, .index = index };
    uint32_t a, b, c, d;

    cpu_x86_cpuid(cpu_env(first_cpu), function, index, &a, &b, &c, &d);
    if (!(a | b | c | d) || *count == MAX_CPUID_ENTRIES) {
        return;
    }
    if (function == 0xd && index < 2) {
        e.xcr0 = cpu_to_le64(1);
        b = XSAVE_LEGACY_SIZE;
    }
    e.eax = cpu_to_le32(a);
    e.ebx = cpu_to_le32(b);
    e.ecx = cpu_to_le32(c);
    e.edx = cpu_to_le32(d);
    memcpy(page + CPUID_HEADER_SIZE + *count * sizeof(e), &e, sizeof(e));
    ++*count;
}

static void fill_cpuid(uint8_t *page)
{
    static const struct { uint32_t first, last, indices; } leaves[] = {
        { 0x0, 0x2, 1 }, { 0x4, 0x4, 4 }, { 0x5, 0x6, 1 }, { 0x7, 0x7, 2 },
        { 0xb, 0xb, 2 }, { 0xd, 0xd, 10 }, { 0x40000000, 0x40000001, 1 },
        { 0x80000000, 0x80000008, 1 }, { 0x8000000a, 0x8000000a, 1 },
        { 0x80000019, 0x8000001a, 1 }, { 0x8000001d, 0x8000001d, 4 },
        { 0x8000001e, 0x80000022, 1 },
    };
    unsigned count = 0;

    for (int i = 0; i < ARRAY_SIZE(leaves); i++) {
        for (uint32_t f = leaves[i].first; f <= leaves[i].last; f++) {
            for (uint32_t index = 0; index < leaves[i].indices; index++) {
                add_cpuid(page, &count, f, index);
            }
        }
    }
    stl_le_p(page, count);
}

/* ---- a host that loads pages elsewhere (x-launch-swap) ---- */

/*
 * The host gives the firmware the same pages in the same order, but two of
 * them for each other's address.
 */
bool sev_tcg_swap_firmware(uint64_t gpa, uint8_t *image, uint64_t size,
                           Error **errp)
{
    SevTcgCommon *sev = sev_tcg_common();
    uint8_t first[SEV_PAGE_SIZE];
    uint8_t *page[2];

    if (!sev->have_swap) {
        return true;
    }
    for (int i = 0; i < 2; i++) {
        if (sev->swap[i] < gpa || sev->swap[i] - gpa >= size) {
            error_setg(errp, "x-launch-swap: no page of the firmware image at"
                       " %#" PRIx64, sev->swap[i]);
            return false;
        }
        page[i] = image + (sev->swap[i] - gpa);
    }
    memcpy(first, page[0], SEV_PAGE_SIZE);
    memcpy(page[0], page[1], SEV_PAGE_SIZE);
    memcpy(page[1], first, SEV_PAGE_SIZE);
    return true;
}

/* Where the host loads the page of the image that belongs at @page. */
static uint64_t load_address(uint64_t page)
{
    SevTcgCommon *sev = sev_tcg_common();
    uint64_t gpa = sev_tcg_gfn_of(page) << SEV_PAGE_BITS;

    for (int i = 0; sev->have_swap && i < 2; i++) {
        if (gpa == sev->swap[i]) {
            return sev_tcg_page_of(sev->swap[1 - i] >> SEV_PAGE_BITS);
        }
    }
    return page;
}

/* ---- launching ---- */

static void launch_page(SevPageType type, uint64_t page, const uint8_t *data)
{
    bool measured = type == SEV_PAGE_TYPE_NORMAL;

    sev_tcg_measure(type, sev_tcg_gfn_of(page) << SEV_PAGE_BITS,
                    measured ? data : NULL);
    soc_cache_write_page(page, data);
    sev_tcg_rmp_launch(page);
}

static bool launch_section(const Section *s, Error **errp)
{
    g_autofree uint8_t *data = g_malloc(SEV_PAGE_SIZE);
    SevPageType type = SEV_PAGE_TYPE_ZERO;
    bool secrets = s->type == SECTION_SECRETS;

    if ((s->base | s->size) % SEV_PAGE_SIZE ||
        s->base + (uint64_t)s->size >
        X86_MACHINE(current_machine)->below_4g_mem_size) {
        error_setg(errp, "the firmware's section at %#x (%#x bytes) does not"
                   " lie in RAM", s->base, s->size);
        return false;
    }
    for (uint64_t at = s->base; at < s->base + (uint64_t)s->size;
         at += SEV_PAGE_SIZE) {
        memset(data, 0, SEV_PAGE_SIZE);
        if (secrets) {
            type = SEV_PAGE_TYPE_SECRETS;
            fill_secrets(data);
        } else if (s->type == SECTION_CPUID) {
            type = SEV_PAGE_TYPE_CPUID;
            fill_cpuid(data);
        } else if (s->type == SECTION_KERNEL_HASHES &&
                   sev_tcg_hash_page(at, data)) {
            type = SEV_PAGE_TYPE_NORMAL;
        }
        launch_page(type, at >> SEV_PAGE_BITS, data);
        if (secrets) {
            explicit_bzero(data, SEV_PAGE_SIZE);
        }
    }
    return true;
}

static void measure_save_areas(void)
{
    g_autofree uint8_t *vmsa = g_malloc(SEV_PAGE_SIZE);
    bool snp = sev_snp_enabled();
    CPUState *cs;

    CPU_FOREACH(cs) {
        sev_tcg_vmsa_reset(cpu_env(cs), vmsa,
                           cs->cpu_index ? ap_entry : BSP_ENTRY);
        if (snp) {
            sev_tcg_measure(SEV_PAGE_TYPE_VMSA, VMSA_GPA, vmsa);
        } else {
            sev_tcg_measure_bytes(vmsa, SEV_PAGE_SIZE);
        }
    }
}

static bool launch_snp(Error **errp)
{
    uint64_t ram_pages = current_machine->ram_size >> SEV_PAGE_BITS;

    if (!have_metadata) {
        error_setg(errp, "the firmware has no SEV-SNP metadata: give OVMF with"
                   " -bios (Debian: ovmf 2025.02 or later)");
        return false;
    }
    if (!sev_tcg_rmp_start(errp) || !sev_tcg_context_start(errp)) {
        return false;
    }
    for (uint64_t page = ram_pages; page < sev_tcg_rmp.pages; page++) {
        uint64_t to = load_address(page);

        launch_page(SEV_PAGE_TYPE_NORMAL, to, sev_tcg_host_page(to));
    }
    for (unsigned i = 0; i < nsections; i++) {
        if (!launch_section(&sections[i], errp)) {
            return false;
        }
    }
    measure_save_areas();
    return sev_tcg_context_finish(errp);
}

bool sev_tcg_launch(Error **errp)
{
    sev_tcg_level = sev_snp_enabled() ? SEV_TCG_SNP
                  : sev_es_enabled() ? SEV_TCG_ES : SEV_TCG_PLAIN;
    if (sev_tcg_level == SEV_TCG_SNP) {
        if (!launch_snp(errp)) {
            return false;
        }
    } else {
        sev_tcg_load_hashes(memory_region_get_ram_ptr(current_machine->ram));
        if (sev_tcg_level == SEV_TCG_ES) {
            measure_save_areas();
        }
    }
    qemu_register_reset(after_reset, NULL);
    return true;
}
