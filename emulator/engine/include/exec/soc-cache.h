/*
 * The SoC cache of an encrypted guest: hooks for the rest of QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Guest RAM as the VMM maps it plays the DRAM and holds ciphertext.  Plaintext
 * exists only in a bounded set of page slots, the SoC cache, which no dump of
 * the process can read.  The software TLB points into the cache.
 */
#ifndef EXEC_SOC_CACHE_H
#define EXEC_SOC_CACHE_H

#include "exec/soc-xex.h"

typedef struct CPUState CPUState;
typedef struct Error Error;

typedef enum SocCacheOp {
    /* Named after the x86 instructions with these effects. */
    SOC_CACHE_WBNOINVD,     /* write back, keep */
    SOC_CACHE_WBINVD,       /* write back and drop */
    SOC_CACHE_INVD,         /* drop without writing back: contents are lost */
} SocCacheOp;

/*
 * Where private pages lie while they are not resident: in the guest's RAM as
 * the VMM maps it (SEV, SEV-ES), or apart from it (SEV-SNP), in memory that the
 * VMM process can read but not write, or that it does not map at all.
 */
typedef enum SocBacking {
    SOC_BACKING_RAM,
    SOC_BACKING_CIPHERTEXT,
    SOC_BACKING_HOLE,
} SocBacking;

typedef struct SocCacheConfig {
    uint32_t pages;         /* resident pages to keep at most */
    SocBacking backing;
    void *extra;            /* more memory of the guest's, after the DRAM's */
    size_t extra_size;      /* pages; zero if there is none */
    bool require_secret;    /* fail where memfd_secret is not to be had */
    bool aesni;             /* use AES-NI if the processor has it */
    const uint8_t *key;     /* SOC_XEX_KEY_SIZE bytes, NULL for a random one */
} SocCacheConfig;

typedef struct SocCacheStats {
    uint64_t encryptions;   /* pages encrypted on their way to DRAM */
    uint64_t decryptions;   /* pages decrypted into the cache */
    uint64_t evictions;     /* rounds of making room */
    uint64_t clean_drops;   /* pages dropped without encryption: not written */
    uint64_t device_writebacks; /* pages written back for a device or an alias */
    uint64_t resident;      /* pages in the cache now */
    uint64_t tampered;      /* pages whose ciphertext somebody else changed */
} SocCacheStats;

/* What the inline hooks look at; lengths are zero while there is no cache. */
typedef struct SocCacheMap {
    uintptr_t dram;
    size_t dram_size;
    uintptr_t extra;
    size_t extra_size;
    uintptr_t slots;
    size_t slots_size;
    /* Host's nested page table, by page of DRAM; NULL: one to one. */
    uint32_t *nested;
} SocCacheMap;

extern SocCacheMap soc_cache_map;

/*
 * Start encrypting @dram_size bytes at @dram.  Call with no vCPU running.
 * Whatever the memory holds by then is taken as it is, that is as ciphertext.
 */
bool soc_cache_start(void *dram, size_t dram_size,
                     const SocCacheConfig *config, Error **errp);
/* From now on what is loaded into memory is stored as it is. */
void soc_cache_finish_launch(void);
bool soc_cache_secret(void);    /* are the slots in memfd_secret memory? */
bool soc_cache_aesni(void);     /* is the AES-NI path in use? */
void soc_cache_get_stats(SocCacheStats *stats);

/* Act on the whole cache.  Main loop only, with the BQL held. */
void soc_cache_operate(SocCacheOp op);

/*
 * Pages by number: those of the DRAM, then those of the extra memory.  Reading
 * and writing are done as the SoC does, with the guest's key.  Discarding
 * forgets contents, resident or not; the caller flushes the TLBs of all vCPUs.
 */
void soc_cache_read_page(uint32_t page, void *buf);
void soc_cache_write_page(uint32_t page, const void *buf);
void soc_cache_discard(uint32_t first, uint32_t count);
/* The ciphertext of @page as it lies in memory now. */
void soc_cache_read_ciphertext(uint32_t page, void *buf);
/* How many pages there are, and encrypting one at a number of its own. */
uint32_t soc_cache_pages(void);
void soc_cache_encrypt(uint32_t number, void *buf);
/* Where this process maps the private backing read-only; NULL if it does not. */
void *soc_cache_private_map(size_t *size);
/* Called, with no lock held, when a page's ciphertext was tampered with. */
extern void (*soc_cache_on_tampering)(uint32_t page);
/* Memory that a dump does not show and ptrace cannot read; never NULL. */
void *soc_secret_alloc(size_t size);

/* Out-of-line parts of the hooks below. */
uintptr_t soc_cache_fill_slow(CPUState *cpu, uintptr_t dram, bool encrypted,
                              bool writable);
void soc_cache_before_device_write_slow(uintptr_t dram, size_t len);
uintptr_t soc_cache_to_dram_slow(uintptr_t slot_address);
void soc_cache_launch_write_slow(uintptr_t dram, const void *buf, size_t len);
bool soc_cache_crowded_slow(CPUState *cpu);

static inline bool soc_cache_active(void)
{
    return soc_cache_map.dram_size != 0;
}

static inline bool soc_cache_covers(uintptr_t host)
{
    return unlikely(host - soc_cache_map.dram < soc_cache_map.dram_size ||
                    host - soc_cache_map.extra < soc_cache_map.extra_size);
}

/*
 * By how many bytes the host has moved the RAM page at @host in its nested
 * page table.
 */
static inline intptr_t soc_cache_moved(uintptr_t host)
{
    uintptr_t offset = host - soc_cache_map.dram;

    if (likely(!soc_cache_map.nested) || offset >= soc_cache_map.dram_size) {
        return 0;
    }
    return ((intptr_t)soc_cache_map.nested[offset >> 12] << 12) -
           (intptr_t)(offset & ~(uintptr_t)0xfff);
}

/*
 * Where a new TLB entry for the RAM page at @host is to point.  Called by the
 * vCPU that fills its TLB.
 */
static inline uintptr_t soc_cache_fill(CPUState *cpu, uintptr_t host,
                                       bool encrypted, bool writable)
{
    return soc_cache_covers(host)
        ? soc_cache_fill_slow(cpu, host, encrypted, writable) : host;
}

/* The host, or a device, is about to store @len bytes at @host. */
static inline void soc_cache_before_device_write(void *host, size_t len)
{
    if (soc_cache_covers((uintptr_t)host)) {
        soc_cache_before_device_write_slow((uintptr_t)host, len);
    }
}

/* The RAM address that stands behind a pointer taken from a TLB entry. */
static inline uintptr_t soc_cache_to_dram(uintptr_t host)
{
    return unlikely(host - soc_cache_map.slots < soc_cache_map.slots_size)
        ? soc_cache_to_dram_slow(host) : host;
}

/*
 * Load data: encrypted in DRAM and plaintext to the guest until the launch has
 * finished.  Afterwards (a reset loads again) it is a store of the host's.
 */
static inline void soc_cache_launch_write(void *host, const void *buf,
                                          size_t len)
{
    if (soc_cache_covers((uintptr_t)host)) {
        soc_cache_launch_write_slow((uintptr_t)host, buf, len);
    } else {
        memcpy(host, buf, len);
    }
}

/*
 * Is the cache so full that the vCPU should leave its translation block before
 * it fills one more page?
 */
static inline bool soc_cache_crowded(CPUState *cpu)
{
    return soc_cache_active() && soc_cache_crowded_slow(cpu);
}

#endif /* EXEC_SOC_CACHE_H */
