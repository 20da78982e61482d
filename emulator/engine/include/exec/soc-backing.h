/*
 * Where the private pages of an encrypted guest lie: internal to the SoC cache
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef EXEC_SOC_BACKING_H
#define EXEC_SOC_BACKING_H

#include "exec/soc-cache.h"

/* Memory that a dump does not show and ptrace cannot read, or MAP_FAILED. */
void *soc_map_secret(size_t size);

/*
 * Set up the backing of @pages pages.  soc_cache_map must name the guest's RAM.
 * The apart kinds are not mapped writable anywhere in this process.
 */
bool soc_backing_open(SocBacking kind, size_t pages, Error **errp);
bool soc_backing_apart(void);

/*
 * Move a page from the backing to @slot and back.  Loading tells whether the
 * ciphertext is what was stored there last (always true in RAM: SEV has no
 * integrity protection).
 */
bool soc_backing_load(const SocXex *xex, uint32_t page, void *slot);
void soc_backing_store(const SocXex *xex, uint32_t page, const void *slot);

void soc_backing_discard(uint32_t first, uint32_t count);
void soc_backing_peek(uint32_t page, void *ciphertext);
void *soc_backing_map(size_t *size);

/* The guest's RAM page as the VMM maps it. */
static inline void *soc_ram_page(uint32_t page)
{
    uintptr_t offset = (uintptr_t)page << 12;

    return (void *)(offset < soc_cache_map.dram_size
                    ? soc_cache_map.dram + offset
                    : soc_cache_map.extra + (offset - soc_cache_map.dram_size));
}

#endif /* EXEC_SOC_BACKING_H */
