/*
 * The SoC cache of an encrypted guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Concurrency.  A page enters the cache on a vCPU thread (TLB fill) under the
 * lock.  It leaves it in one of two ways:
 *
 *  - eviction, in an exclusive section with every TLB flushed: the slot is free
 *    at once, because nobody can hold a pointer into it;
 *  - retirement, when a device or a shared (C-bit clear) mapping needs the DRAM
 *    page now.  vCPUs may still hold pointers, so the slot stays in limbo, with
 *    its contents, until an exclusive section has flushed every TLB.  Each vCPU
 *    is also told to flush at the end of its translation block, so that a page
 *    that comes back soon is not looked for in the old slot.
 *
 * Never evict inside a fill: an access that crosses a page may hold a pointer
 * into the page it looked up first.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "hw/boards.h"
#include "hw/core/cpu.h"
#include "exec/cputlb.h"
#include "exec/soc-backing.h"
#include "exec/tb-flush.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include <sys/mman.h>

#define PAGE_BITS 12
#define PAGE_BYTES SOC_XEX_PAGE_SIZE

/*
 * Slots beyond the configured number, per vCPU: what one translation block may
 * touch after room has been asked for.  The longest is a REP MOVSQ, whose loop
 * leaves the block every 65,536 iterations: 128 source and 128 target pages.
 */
#define SLACK_PER_CPU 512
/* A vCPU leaves its block early when fewer slots than this are free. */
#define CROWDED_PER_CPU 64

typedef enum SlotState { SLOT_FREE, SLOT_USED, SLOT_LIMBO } SlotState;

typedef struct Slot {
    uint32_t page;
    uint8_t state;
    uint8_t dirty;          /* a writable TLB entry has existed */
    uint8_t referenced;     /* filled again since the clock hand went by */
} Slot;

typedef struct SocCache {
    QemuMutex lock;
    uint32_t npages;        /* pages of the guest: DRAM, then extra */
    uint32_t limit;         /* pages to keep at most */
    uint32_t nslots;
    uint32_t free;
    uint32_t limbo;
    uint32_t crowded;
    uint32_t alloc_hand;
    uint32_t evict_hand;
    uint32_t *slot_of;      /* by page: slot + 1, or 0 if not resident */
    Slot *slots;
    SocXex *xex;            /* at the end of the slots' mapping */
    bool secret;
    bool launched;          /* the host stores nothing with the guest's key */
    bool work_queued;
    SocCacheStats stats;
} SocCache;

SocCacheMap soc_cache_map;
void (*soc_cache_on_tampering)(uint32_t page);
static SocCache cache;

static void *slot_page(uint32_t slot)
{
    return (void *)(soc_cache_map.slots + ((uintptr_t)slot << PAGE_BITS));
}

static uint32_t page_at(uintptr_t dram)
{
    uintptr_t offset = dram - soc_cache_map.dram;

    if (offset >= soc_cache_map.dram_size) {
        offset = dram - soc_cache_map.extra + soc_cache_map.dram_size;
    }
    return offset >> PAGE_BITS;
}

/* ---- leaving the cache (lock held) ---- */

static void write_back(uint32_t slot)
{
    uint32_t page = cache.slots[slot].page;

    if (qatomic_read(&cache.slots[slot].dirty)) {
        soc_backing_store(cache.xex, page, slot_page(slot));
        cache.stats.encryptions++;
    } else {
        cache.stats.clean_drops++;
    }
}

static void release_slot(uint32_t slot)
{
    memset(slot_page(slot), 0, PAGE_BYTES);
    cache.slots[slot].state = SLOT_FREE;
    cache.free++;
}

/* Only in an exclusive section, after flushing the TLBs. */
static void drop(uint32_t slot)
{
    qatomic_set(&cache.slot_of[cache.slots[slot].page], 0);
    release_slot(slot);
    cache.stats.resident--;
}

static void release_limbo(void)
{
    for (uint32_t slot = 0; cache.limbo && slot < cache.nslots; slot++) {
        if (cache.slots[slot].state == SLOT_LIMBO) {
            release_slot(slot);
            cache.limbo--;
        }
    }
}

/* Second-chance (clock) eviction down to seven eighths of the limit. */
static void make_room(void)
{
    uint32_t target = cache.limit - cache.limit / 8;

    if (cache.stats.resident <= cache.limit) {
        return;
    }
    cache.stats.evictions++;
    while (cache.stats.resident > target) {
        uint32_t slot = cache.evict_hand;
        Slot *s = &cache.slots[slot];

        cache.evict_hand = (slot + 1) % cache.nslots;
        if (s->state != SLOT_USED) {
            continue;
        }
        if (s->referenced) {
            s->referenced = false;
            continue;
        }
        write_back(slot);
        drop(slot);
    }
}

static void flush_all_tlbs(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        tlb_flush(cpu);
    }
}

/* Queued work; no vCPU runs meanwhile. */
static void tidy_work(CPUState *unused, run_on_cpu_data data)
{
    flush_all_tlbs();
    qemu_mutex_lock(&cache.lock);
    cache.work_queued = false;
    release_limbo();
    make_room();
    qemu_mutex_unlock(&cache.lock);
}

/* With the lock held. */
static void queue_tidy_work(CPUState *cpu)
{
    if (!cache.work_queued) {
        cache.work_queued = true;
        async_safe_run_on_cpu(cpu, tidy_work, RUN_ON_CPU_NULL);
    }
}

static void flush_work(CPUState *cpu, run_on_cpu_data data)
{
    tlb_flush(cpu);
}

/* Take a page out of the cache while vCPUs may hold pointers into its slot. */
static void put_in_limbo(uint32_t page)
{
    uint32_t slot = cache.slot_of[page] - 1;

    qatomic_set(&cache.slot_of[page], 0);
    cache.slots[slot].state = SLOT_LIMBO;
    cache.limbo++;
    cache.stats.resident--;
}

static void retire(uint32_t page)
{
    write_back(cache.slot_of[page] - 1);
    put_in_limbo(page);
    cache.stats.device_writebacks++;
}

static void retire_range(uint32_t first, uint32_t last)
{
    bool any = false;
    CPUState *cpu;

    qemu_mutex_lock(&cache.lock);
    for (uint32_t page = first; page <= last; page++) {
        if (cache.slot_of[page]) {
            retire(page);
            any = true;
        }
    }
    if (any && first_cpu) {
        queue_tidy_work(first_cpu);
    }
    qemu_mutex_unlock(&cache.lock);
    if (any) {
        CPU_FOREACH(cpu) {
            async_run_on_cpu(cpu, flush_work, RUN_ON_CPU_NULL);
        }
    }
}

/* ---- entering the cache ---- */

static uint32_t allocate_slot(uint32_t page)
{
    uint32_t slot;

    if (!cache.free) {
        error_report("SoC cache: one translation block needed more than the"
                     " %u spare slots; give the guest a larger cache-pages",
                     cache.nslots - cache.limit);
        abort();
    }
    while (cache.slots[cache.alloc_hand].state != SLOT_FREE) {
        cache.alloc_hand = (cache.alloc_hand + 1) % cache.nslots;
    }
    slot = cache.alloc_hand;
    cache.alloc_hand = (slot + 1) % cache.nslots;
    cache.free--;
    cache.slots[slot] = (Slot) { .page = page, .state = SLOT_USED };
    return slot;
}

/* With the lock held: the slot of @page, decrypted from DRAM if need be. */
static uint32_t bring_in(uint32_t page)
{
    uint32_t slot;

    if (cache.slot_of[page]) {
        return cache.slot_of[page] - 1;
    }
    slot = allocate_slot(page);
    if (!soc_backing_load(cache.xex, page, slot_page(slot))) {
        cache.stats.tampered++;
    }
    cache.stats.decryptions++;
    cache.stats.resident++;
    qatomic_store_release(&cache.slot_of[page], slot + 1);
    return slot;
}

uintptr_t soc_cache_fill_slow(CPUState *cpu, uintptr_t dram, bool encrypted,
                              bool writable)
{
    uint32_t page = page_at(dram);
    uint32_t slot = qatomic_load_acquire(&cache.slot_of[page]);
    uint64_t tampered;

    if (!encrypted) {
        if (unlikely(slot) && !soc_backing_apart()) {
            retire_range(page, page);
        }
        return dram;
    }
    if (slot) {
        slot--;
        qatomic_set(&cache.slots[slot].referenced, true);
    } else {
        qemu_mutex_lock(&cache.lock);
        tampered = cache.stats.tampered;
        slot = bring_in(page);
        if (cache.stats.resident > cache.limit) {
            queue_tidy_work(cpu);
        }
        tampered = cache.stats.tampered - tampered;
        qemu_mutex_unlock(&cache.lock);
        if (unlikely(tampered) && soc_cache_on_tampering) {
            soc_cache_on_tampering(page);
        }
    }
    if (writable) {
        qatomic_set(&cache.slots[slot].dirty, true);
    }
    return (uintptr_t)slot_page(slot);
}

bool soc_cache_crowded_slow(CPUState *cpu)
{
    if (likely(qatomic_read(&cache.free) >= cache.crowded)) {
        return false;
    }
    qemu_mutex_lock(&cache.lock);
    queue_tidy_work(cpu);
    qemu_mutex_unlock(&cache.lock);
    return true;
}

/* ---- other hooks ---- */

void soc_cache_before_device_write_slow(uintptr_t dram, size_t len)
{
    uint32_t first = page_at(dram);
    uint32_t last;

    if (soc_backing_apart()) {
        return;             /* shared memory is other memory */
    }
    last = len ? MIN(page_at(dram + len - 1), cache.npages - 1) : first;

    for (uint32_t page = first; page <= last; page++) {
        if (unlikely(qatomic_read(&cache.slot_of[page]))) {
            retire_range(page, last);
            return;
        }
    }
}

uintptr_t soc_cache_to_dram_slow(uintptr_t slot_address)
{
    uint32_t slot = (slot_address - soc_cache_map.slots) >> PAGE_BITS;

    return (uintptr_t)soc_ram_page(qatomic_read(&cache.slots[slot].page))
        + (slot_address & (PAGE_BYTES - 1));
}

void soc_cache_launch_write_slow(uintptr_t dram, const void *buf, size_t len)
{
    const uint8_t *from = buf;

    if (soc_backing_apart() || cache.launched) {
        /* Not the guest's until measured; afterwards, a store by the host. */
        soc_cache_before_device_write_slow(dram, len);
        memcpy((void *)dram, buf, len);
        return;
    }
    qemu_mutex_lock(&cache.lock);
    while (len) {
        size_t offset = dram & (PAGE_BYTES - 1);
        size_t part = MIN(len, PAGE_BYTES - offset);
        bool was_resident = cache.slot_of[page_at(dram)];
        uint32_t slot = bring_in(page_at(dram));

        memcpy((uint8_t *)slot_page(slot) + offset, from, part);
        cache.slots[slot].dirty = true;
        if (!was_resident) {
            /* Straight to DRAM, so that launch data of any size fits. */
            write_back(slot);
            drop(slot);
        }
        dram += part;
        from += part;
        len -= part;
    }
    qemu_mutex_unlock(&cache.lock);
}

void soc_cache_finish_launch(void)
{
    cache.launched = true;
}

void soc_cache_read_page(uint32_t page, void *buf)
{
    uint32_t slot;

    qemu_mutex_lock(&cache.lock);
    slot = cache.slot_of[page];
    if (slot) {
        memcpy(buf, slot_page(slot - 1), PAGE_BYTES);
    } else if (!soc_backing_load(cache.xex, page, buf)) {
        cache.stats.tampered++;
    }
    qemu_mutex_unlock(&cache.lock);
}

void soc_cache_write_page(uint32_t page, const void *buf)
{
    uint32_t slot;

    qemu_mutex_lock(&cache.lock);
    slot = cache.slot_of[page];
    if (slot) {
        memcpy(slot_page(slot - 1), buf, PAGE_BYTES);
        qatomic_set(&cache.slots[slot - 1].dirty, true);
    } else {
        soc_backing_store(cache.xex, page, buf);
    }
    qemu_mutex_unlock(&cache.lock);
}

void soc_cache_discard(uint32_t first, uint32_t count)
{
    bool any = false;

    qemu_mutex_lock(&cache.lock);
    for (uint32_t page = first; page < first + count; page++) {
        if (cache.slot_of[page]) {
            put_in_limbo(page);
            any = true;
        }
    }
    soc_backing_discard(first, count);
    if (any && first_cpu) {
        queue_tidy_work(first_cpu);
    }
    qemu_mutex_unlock(&cache.lock);
}

void soc_cache_read_ciphertext(uint32_t page, void *buf)
{
    uint32_t slot;

    qemu_mutex_lock(&cache.lock);
    slot = cache.slot_of[page];
    if (slot && qatomic_read(&cache.slots[slot - 1].dirty)) {
        soc_backing_store(cache.xex, page, slot_page(slot - 1));
    }
    soc_backing_peek(page, buf);
    qemu_mutex_unlock(&cache.lock);
}

uint32_t soc_cache_pages(void)
{
    return cache.npages;
}

void soc_cache_encrypt(uint32_t number, void *buf)
{
    soc_xex_encrypt_page(cache.xex, buf, buf, number);
}

void *soc_cache_private_map(size_t *size)
{
    return soc_backing_map(size);
}

void soc_cache_operate(SocCacheOp op)
{
    g_assert(bql_locked());
    pause_all_vcpus();
    flush_all_tlbs();
    qemu_mutex_lock(&cache.lock);
    release_limbo();
    for (uint32_t slot = 0; slot < cache.nslots; slot++) {
        if (cache.slots[slot].state != SLOT_USED) {
            continue;
        }
        if (op != SOC_CACHE_INVD) {
            write_back(slot);
            cache.slots[slot].dirty = false;
        }
        if (op != SOC_CACHE_WBNOINVD) {
            drop(slot);
        }
    }
    qemu_mutex_unlock(&cache.lock);
    if (op != SOC_CACHE_WBNOINVD && first_cpu) {
        /* Code may come back changed from DRAM: translate it anew. */
        tb_flush(first_cpu);
    }
    if (runstate_is_running()) {
        resume_all_vcpus();
    }
}

/* ---- start ---- */

static void *map_slots(size_t size, bool require_secret, Error **errp)
{
    void *map = soc_map_secret(size);

    cache.secret = map != MAP_FAILED;
    if (!cache.secret) {
        const char *hint = errno == EAGAIN
            ? " (raise the locked-memory limit, ulimit -l)" : "";

        if (require_secret) {
            error_setg_errno(errp, errno, "memfd_secret memory for the SoC"
                             " cache is not to be had%s", hint);
            return NULL;
        }
        warn_report("SoC cache: no memfd_secret memory: %s%s. The plaintext"
                    " is only left out of core dumps (MADV_DONTDUMP): a"
                    " debugger can read it. WEAKER than intended.",
                    strerror(errno), hint);
        map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map the SoC cache");
            return NULL;
        }
        if (qemu_madvise(map, size, QEMU_MADV_DONTDUMP)) {
            warn_report("SoC cache: MADV_DONTDUMP failed as well: %s",
                        strerror(errno));
        }
    }
    qemu_madvise(map, size, QEMU_MADV_DONTFORK);
    return map;
}

static bool load_key(const SocCacheConfig *config, Error **errp)
{
    uint8_t key[SOC_XEX_KEY_SIZE];

    if (config->key) {
        memcpy(key, config->key, sizeof(key));
    } else if (getentropy(key, sizeof(key))) {
        error_setg_errno(errp, errno, "no random memory encryption key");
        return false;
    }
    soc_xex_init(cache.xex, key, config->aesni);
    explicit_bzero(key, sizeof(key));
    return true;
}

bool soc_cache_start(void *dram, size_t dram_size,
                     const SocCacheConfig *config, Error **errp)
{
    unsigned cpus = current_machine->smp.max_cpus;
    size_t slots_size, key_size = ROUND_UP(sizeof(SocXex), PAGE_BYTES);
    void *slots;

    g_assert(!soc_cache_active());
    qemu_mutex_init(&cache.lock);
    cache.npages = (dram_size + config->extra_size) >> PAGE_BITS;
    cache.limit = MIN(config->pages, cache.npages);
    cache.nslots = cache.limit + SLACK_PER_CPU * (cpus + 1);
    cache.free = cache.nslots;
    cache.crowded = CROWDED_PER_CPU * cpus;
    slots_size = (size_t)cache.nslots << PAGE_BITS;

    slots = map_slots(slots_size + key_size, config->require_secret, errp);
    if (!slots) {
        return false;
    }
    cache.xex = (SocXex *)((uint8_t *)slots + slots_size);
    if (!load_key(config, errp)) {
        return false;
    }
    if (!soc_backing_open(config->backing, cache.npages, errp)) {
        return false;
    }
    cache.slot_of = g_new0(uint32_t, cache.npages);
    cache.slots = g_new0(Slot, cache.nslots);
    soc_cache_map = (SocCacheMap) {
        .dram = (uintptr_t)dram, .dram_size = dram_size,
        .extra = (uintptr_t)config->extra, .extra_size = config->extra_size,
        .slots = (uintptr_t)slots, .slots_size = slots_size,
    };
    return true;
}

bool soc_cache_secret(void)
{
    return cache.secret;
}

bool soc_cache_aesni(void)
{
    return cache.xex && cache.xex->aesni;
}

void soc_cache_get_stats(SocCacheStats *stats)
{
    *stats = (SocCacheStats) { 0 };
    if (soc_cache_active()) {
        qemu_mutex_lock(&cache.lock);
        *stats = cache.stats;
        qemu_mutex_unlock(&cache.lock);
    }
}
