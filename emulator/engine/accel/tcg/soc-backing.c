/*
 * Where the private pages of an encrypted guest lie
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * SEV and SEV-ES: in the guest's RAM, where the host can write.  SEV-SNP: in a
 * memfd of its own, as guest_memfd does it on hardware.  The process maps it
 * read-only from a descriptor opened read-only, so that the kernel refuses
 * ptrace, /proc/PID/mem and process_vm_writev; the engine stores with pwrite.
 * What is left to root is the descriptor (/proc/PID/fd).  For that the SoC
 * keeps, out of the host's reach, the exclusive-or of the plaintext blocks of
 * each page: whoever changes a block of ciphertext changes a block of plaintext
 * in a way that he cannot predict.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/memfd.h"
#include "qapi/error.h"
#include "exec/soc-backing.h"
#include <sys/mman.h>

#define PAGE_BYTES SOC_XEX_PAGE_SIZE

typedef struct Tag {
    uint64_t lo, hi;
} Tag;

static struct {
    SocBacking kind;
    int fd;
    const uint8_t *map;     /* read-only; NULL with SOC_BACKING_HOLE */
    size_t size;
    Tag *tags;              /* in secret memory */
    uint8_t *stored;        /* by page: has ever been stored */
} backing = { .fd = -1 };

bool soc_backing_apart(void)
{
    return backing.kind != SOC_BACKING_RAM;
}

static Tag tag_of(const void *plaintext)
{
    const uint64_t *word = plaintext;
    Tag tag = { 0, 0 };

    for (int i = 0; i < PAGE_BYTES / 8; i += 2) {
        tag.lo ^= word[i];
        tag.hi ^= word[i + 1];
    }
    return tag;
}

static void G_NORETURN failed(const char *what)
{
    error_report("private memory of the guest: cannot %s: %s", what,
                 strerror(errno));
    abort();
}

void soc_backing_peek(uint32_t page, void *ciphertext)
{
    off_t at = (off_t)page * PAGE_BYTES;

    if (backing.kind == SOC_BACKING_RAM) {
        memcpy(ciphertext, soc_ram_page(page), PAGE_BYTES);
    } else if (backing.map) {
        memcpy(ciphertext, backing.map + at, PAGE_BYTES);
    } else if (pread(backing.fd, ciphertext, PAGE_BYTES, at) != PAGE_BYTES) {
        failed("read");
    }
}

bool soc_backing_load(const SocXex *xex, uint32_t page, void *slot)
{
    const void *from = slot;
    Tag tag;

    if (backing.kind == SOC_BACKING_RAM) {
        from = soc_ram_page(page);
    } else if (backing.map) {
        from = backing.map + (size_t)page * PAGE_BYTES;
    } else {
        soc_backing_peek(page, slot);
    }
    soc_xex_decrypt_page(xex, slot, from, page);
    if (backing.kind == SOC_BACKING_RAM || !backing.stored[page]) {
        return true;
    }
    tag = tag_of(slot);
    return tag.lo == backing.tags[page].lo && tag.hi == backing.tags[page].hi;
}

void soc_backing_store(const SocXex *xex, uint32_t page, const void *slot)
{
    uint8_t ciphertext[PAGE_BYTES] QEMU_ALIGNED(64);

    if (backing.kind == SOC_BACKING_RAM) {
        soc_xex_encrypt_page(xex, soc_ram_page(page), slot, page);
        return;
    }
    soc_xex_encrypt_page(xex, ciphertext, slot, page);
    if (pwrite(backing.fd, ciphertext, PAGE_BYTES,
               (off_t)page * PAGE_BYTES) != PAGE_BYTES) {
        failed("write");
    }
    backing.tags[page] = tag_of(slot);
    backing.stored[page] = true;
}

static void punch(uint32_t first, uint32_t end)
{
    if (fallocate(backing.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)first * PAGE_BYTES,
                  (off_t)(end - first) * PAGE_BYTES)) {
        failed("discard pages");
    }
    memset(backing.stored + first, 0, end - first);
}

void soc_backing_discard(uint32_t first, uint32_t count)
{
    uint32_t end = first + count, from;

    if (!soc_backing_apart()) {
        return;
    }
    while (first < end) {
        while (first < end && !backing.stored[first]) {
            first++;
        }
        from = first;
        while (first < end && backing.stored[first]) {
            first++;
        }
        if (from < first) {
            punch(from, first);
        }
    }
}

void *soc_backing_map(size_t *size)
{
    *size = backing.map ? backing.size : 0;
    return (void *)backing.map;
}

static bool map_read_only(Error **errp)
{
    g_autofree char *name = g_strdup_printf("/proc/self/fd/%d", backing.fd);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    void *map = MAP_FAILED;

    if (fd >= 0) {
        map = mmap(NULL, backing.size, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot map the guest's private memory"
                         " read-only");
        return false;
    }
    backing.map = map;
    return true;
}

bool soc_backing_open(SocBacking kind, size_t pages, Error **errp)
{
    backing.kind = kind;
    backing.size = pages * PAGE_BYTES;
    if (kind == SOC_BACKING_RAM) {
        return true;
    }
    backing.fd = qemu_memfd_create("sev-private", backing.size, false, 0, 0,
                                   errp);
    if (backing.fd < 0) {
        return false;
    }
    backing.tags = soc_secret_alloc(pages * sizeof(Tag));
    backing.stored = g_malloc0(pages);
    return kind == SOC_BACKING_HOLE || map_read_only(errp);
}
