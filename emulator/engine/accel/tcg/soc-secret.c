/*
 * Memory of the SoC: out of the host's reach
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/madvise.h"
#include "exec/soc-backing.h"
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

void *soc_map_secret(size_t size)
{
    int fd = syscall(SYS_memfd_secret, O_CLOEXEC);
    void *map = MAP_FAILED;
    int saved;

    if (fd < 0) {
        return MAP_FAILED;
    }
    if (ftruncate(fd, size) == 0) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    saved = errno;
    close(fd);
    errno = saved;
    return map;
}

void *soc_secret_alloc(size_t size)
{
    void *map;

    size = ROUND_UP(size, SOC_XEX_PAGE_SIZE);
    map = soc_map_secret(size);
    if (map == MAP_FAILED) {
        warn_report_once("no memfd_secret memory for the state of the SoC (%s):"
                         " it is only left out of core dumps. WEAKER than"
                         " intended.", strerror(errno));
        map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) {
            error_report("cannot map %zu bytes: %s", size, strerror(errno));
            exit(1);
        }
        qemu_madvise(map, size, QEMU_MADV_DONTDUMP);
    }
    qemu_madvise(map, size, QEMU_MADV_DONTFORK);
    return map;
}
