/*
 * SEV-SNP: what lies where in the guest's address space
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * DRAM pages are numbered: those of the machine's RAM, then those of the
 * firmware image, which is guest memory too when it is loaded with -bios.
 */
#include "qemu/osdep.h"
#include "qemu/rcu.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "internal.h"

#define FOUR_GIB_PAGES ((uint64_t)1 << (32 - SEV_PAGE_BITS))
/* Below it, the chipset decides what is RAM (PAM registers). */
#define FIRST_PLAIN_PAGE 0x100

static uint64_t ram_pages(void)
{
    return current_machine->ram_size >> SEV_PAGE_BITS;
}

static uint64_t low_pages(void)
{
    return X86_MACHINE(current_machine)->below_4g_mem_size >> SEV_PAGE_BITS;
}

static MemoryRegion *firmware(void)
{
    return &X86_MACHINE(current_machine)->bios;
}

static uint64_t firmware_pages(void)
{
    return sev_tcg_rmp.pages - ram_pages();
}

uint8_t *sev_tcg_host_page(uint64_t page)
{
    MemoryRegion *mr = current_machine->ram;

    if (page >= ram_pages()) {
        mr = firmware();
        page -= ram_pages();
    }
    return (uint8_t *)memory_region_get_ram_ptr(mr) + (page << SEV_PAGE_BITS);
}

uint64_t sev_tcg_gfn_of(uint64_t page)
{
    if (page >= ram_pages()) {
        return FOUR_GIB_PAGES - firmware_pages() + (page - ram_pages());
    }
    return page < low_pages() ? page : page - low_pages() + FOUR_GIB_PAGES;
}

uint64_t sev_tcg_page_of(uint64_t gfn)
{
    if (gfn < low_pages()) {
        return gfn;
    }
    if (gfn >= FOUR_GIB_PAGES) {
        gfn += low_pages() - FOUR_GIB_PAGES;
        return gfn < ram_pages() ? gfn : SEV_NO_ADDRESS;
    }
    return gfn < FOUR_GIB_PAGES - firmware_pages()
        ? SEV_NO_ADDRESS : gfn - (FOUR_GIB_PAGES - firmware_pages()) + ram_pages();
}

uint64_t sev_tcg_nested(uint64_t page)
{
    return soc_cache_map.nested && page < ram_pages()
        ? soc_cache_map.nested[page] : page;
}

/* The chipset's answer. */
static SevMemory look_up(CPUState *cs, hwaddr gpa, uint64_t *page)
{
    MemTxAttrs attrs = cpu_get_mem_attrs(cpu_env(cs));
    AddressSpace *as = cpu_get_address_space(cs, cpu_asidx_from_attrs(cs, attrs));
    hwaddr offset, length = 1;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(as, gpa, &offset, &length, false, attrs);
    if (mr == current_machine->ram) {
        *page = offset >> SEV_PAGE_BITS;
    } else if (mr == firmware() && firmware_pages()) {
        *page = ram_pages() + (offset >> SEV_PAGE_BITS);
    } else if (memory_region_is_ram(mr) || memory_region_is_romd(mr)) {
        return SEV_MEMORY_ROM;
    } else {
        return SEV_MEMORY_MMIO;
    }
    return sev_tcg_gfn_of(*page) == gpa >> SEV_PAGE_BITS ? SEV_MEMORY_DRAM
                                                         : SEV_MEMORY_ALIAS;
}

SevMemory sev_tcg_memory_at(CPUState *cs, hwaddr gpa, uint64_t *page)
{
    uint64_t gfn = gpa >> SEV_PAGE_BITS;

    /* Most pages by far, without a walk through the memory regions. */
    if (likely(gfn >= FIRST_PLAIN_PAGE && gfn < low_pages())) {
        *page = gfn;
        return SEV_MEMORY_DRAM;
    }
    if (gfn >= FOUR_GIB_PAGES &&
        gfn - FOUR_GIB_PAGES < ram_pages() - low_pages()) {
        *page = gfn - FOUR_GIB_PAGES + low_pages();
        return SEV_MEMORY_DRAM;
    }
    return look_up(cs, gpa, page);
}

bool sev_tcg_is_shared(CPUState *cs, hwaddr gpa, uint64_t *page)
{
    bool shared;
    uint64_t gfn;

    if (sev_tcg_memory_at(cs, gpa, page) != SEV_MEMORY_DRAM) {
        return false;
    }
    if (sev_tcg_level < SEV_TCG_SNP) {
        return true;
    }
    sev_tcg_rmp_lock();
    shared = !sev_rmp_lookup(&sev_tcg_rmp, *page, &gfn)->assigned;
    sev_tcg_rmp_unlock();
    return shared;
}
