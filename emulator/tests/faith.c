/*
 * What must go the same way in an encrypted guest as in a plain one.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 *   faith memory MIB     fill and check MIB of memory, several passes
 *   faith code           self-modifying code: same page, across pages, by an
 *                        alias mapping, by another thread
 *   faith switch N       N switches to and fro between processes
 *   faith atomic N       threads that count to N in shared pages, by atomics,
 *                        by a lock, and by compare-and-swap across pages
 *   faith pages N FILE   N pages of random bytes; writes their page frames to FILE and waits.
 *                        On SIGUSR1 it writes their content to FILE.content.
 *   faith kexec KERNEL INITRD COMMANDLINE   start another kernel from this one
 *
 * Output is the same on every machine, except for `pages`. Status 1: wrong.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/reboot.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define CHECK(what) do { if (!(what)) { printf("WRONG line %d: %s\n", __LINE__, #what); exit(1); } } while (0)

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static void *map(size_t size, int prot, int flags, int fd)
{
    void *p = mmap(NULL, size, prot, flags, fd, 0);

    CHECK(p != MAP_FAILED);
    return p;
}

/* ---- memory ---- */

static void memory(size_t mib)
{
    size_t words = (mib << 20) / 8, page_words = PAGE / 8;
    uint64_t *m = map(mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    uint64_t sum = 0;

    for (size_t i = 0; i < words; i++) {
        CHECK(m[i] == 0);
        m[i] = mix(i);
    }
    /* By stride, so that neighbours are evicted between the visits. */
    for (size_t offset = 0; offset < page_words; offset += 37) {
        for (size_t i = offset; i < words; i += page_words) {
            CHECK(m[i] == mix(i));
            m[i] = ~m[i];
        }
    }
    for (size_t i = words; i-- > 0;) {
        uint64_t want = i % page_words % 37 ? mix(i) : ~mix(i);

        CHECK(m[i] == want);
        sum = mix(sum ^ m[i]);
    }
    /* Accesses across the end of a page, of both kinds of alignment. */
    for (size_t i = PAGE; i < mib << 20; i += PAGE) {
        uint64_t *across = (uint64_t *)((char *)m + i - 3), value = mix(i);

        memcpy(across, &value, 8);
        CHECK(!memcmp(across, &value, 8));
    }
    memmove((char *)m + PAGE + 11, m, (mib << 20) - PAGE - 11);
    for (size_t i = 0; i < words; i++) {
        sum = mix(sum + m[i]);
    }
    printf("memory %zu MiB %016llx\n", mib, (unsigned long long)sum);
}

/* ---- self-modifying code ---- */

typedef uint32_t (*Function)(void);

/* mov eax, imm32; ret */
static void emit(volatile uint8_t *at, uint32_t value)
{
    uint8_t code[6] = { 0xb8, value, value >> 8, value >> 16, value >> 24, 0xc3 };

    for (int i = 0; i < 6; i++) {
        at[i] = code[i];
    }
}

static volatile uint32_t turn;
static uint8_t *shared_code;

static void *writer(void *unused)
{
    for (uint32_t i = 1; i < 4000; i += 2) {
        while (turn != i - 1) {
            sched_yield();
        }
        emit(shared_code, mix(i));
        __sync_synchronize();
        turn = i;
    }
    return NULL;
}

static void code(void)
{
    int rwx = PROT_READ | PROT_WRITE | PROT_EXEC, fd = memfd_create("code", 0);
    uint8_t *p = map(4 * PAGE, rwx, MAP_PRIVATE | MAP_ANONYMOUS, -1), *rw, *rx;
    uint32_t sum = 0;
    pthread_t thread;

    for (uint32_t i = 0; i < 20000; i++) {
        uint8_t *at = p + (i % 3 == 2 ? PAGE - 3 : i % 64 * 8);  /* the first crosses a page */

        emit(at, mix(i));
        CHECK(((Function)at)() == (uint32_t)mix(i));
        sum = mix(sum ^ i);
    }
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    rw = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    rx = map(PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd);
    for (uint32_t i = 0; i < 5000; i++) {
        emit(rw + 16, mix(i));
        CHECK(((Function)(rx + 16))() == (uint32_t)mix(i));
    }
    shared_code = p + 2 * PAGE;
    emit(shared_code, 0);
    CHECK(!pthread_create(&thread, NULL, writer, NULL));
    for (uint32_t i = 1; i < 4000; i += 2) {
        while (turn != i) {
            sched_yield();
        }
        /* CPUID serializes, as a real processor asks for after cross-modification. */
        __asm__ volatile("cpuid" : : "a"(0), "c"(0) : "rbx", "rdx", "memory");
        CHECK(((Function)shared_code)() == (uint32_t)mix(i));
        turn = i + 1;
    }
    pthread_join(thread, NULL);
    printf("code %08x\n", sum);
}

/* ---- processes ---- */

static void switches(unsigned n)
{
    int to[2], fro[2];
    uint64_t value = 1;

    CHECK(pipe(to) == 0 && pipe(fro) == 0);
    if (fork() == 0) {
        close(to[1]);
        while (read(to[0], &value, 8) == 8) {
            value = mix(value);
            CHECK(write(fro[1], &value, 8) == 8);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t want = mix(value);

        CHECK(write(to[1], &value, 8) == 8 && read(fro[0], &value, 8) == 8 && value == want);
    }
    close(to[1]);
    wait(NULL);
    for (unsigned i = 0; i < n / 50; i++) {     /* copy on write */
        int status;
        uint64_t *cow = map(16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

        for (int j = 0; j < 16; j++) {
            cow[j * PAGE / 8] = mix(i + j);
        }
        if (fork() == 0) {
            for (int j = 0; j < 16; j++) {
                if (cow[j * PAGE / 8]++ != mix(i + j)) {
                    _exit(1);
                }
            }
            _exit(cow[0] == mix(i) + 1 ? 0 : 1);
        }
        wait(&status);
        CHECK(status == 0);
        for (int j = 0; j < 16; j++) {
            CHECK(cow[j * PAGE / 8] == mix(i + j));
        }
        munmap(cow, 16 * PAGE);
    }
    printf("switch %u %016llx\n", n, (unsigned long long)value);
}

/* ---- threads ---- */

#define THREADS 4
static uint64_t *counters;
static unsigned rounds;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void *count(void *unused)
{
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t old;
        /* Eight bytes across a page: the slow path of a locked access. */
        uint64_t *across = (uint64_t *)((char *)counters + 2 * PAGE - 4);

        __sync_fetch_and_add(&counters[i % 512], 1);
        if (i % 16 == 0) {
            pthread_mutex_lock(&mutex);
            counters[512]++;
            pthread_mutex_unlock(&mutex);
        }
        if (i % 64 == 0) {
            do {
                memcpy(&old, across, 8);
            } while (!__sync_bool_compare_and_swap(across, old, old + 1));
        }
    }
    return NULL;
}

static void atomics(unsigned n)
{
    pthread_t threads[THREADS];
    uint64_t sum = 0, across;

    counters = map(3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    rounds = n;
    for (int i = 0; i < THREADS; i++) {
        CHECK(!pthread_create(&threads[i], NULL, count, NULL));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < 512; i++) {
        sum += counters[i];
    }
    memcpy(&across, (char *)counters + 2 * PAGE - 4, 8);
    CHECK(sum == (uint64_t)n * THREADS);
    CHECK(counters[512] == (uint64_t)THREADS * ((n + 15) / 16));
    CHECK(across == (uint64_t)THREADS * ((n + 63) / 64));
    printf("atomic %llu\n", (unsigned long long)sum);
}

/* ---- pages that the host looks at ---- */

static volatile sig_atomic_t wanted;

static void want(int signal_number)
{
    wanted = 1;
}

static void pages(unsigned n, const char *out)
{
    uint8_t *p = map(n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int pagemap = open("/proc/self/pagemap", O_RDONLY);
    FILE *list = fopen(out, "w");
    sigset_t block, old;

    CHECK(pagemap >= 0 && list && mlock(p, n * PAGE) == 0);
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &old);
    signal(SIGUSR1, want);
    for (unsigned i = 0; i < n; i++) {
        uint64_t entry;

        for (unsigned done = 0; done < PAGE; done += 256) {
            CHECK(getrandom(p + i * PAGE + done, 256, 0) == 256);
        }
        CHECK(pread(pagemap, &entry, 8, (uintptr_t)(p + i * PAGE) / PAGE * 8) == 8);
        fprintf(list, "%llx\n", (unsigned long long)(entry & ((1ull << 55) - 1)));
    }
    fclose(list);
    for (;;) {
        char name[4096];
        FILE *content;

        while (!wanted) {
            sigsuspend(&old);
        }
        wanted = 0;
        snprintf(name, sizeof(name), "%s.new", out);
        content = fopen(name, "w");
        CHECK(content && fwrite(p, PAGE, n, content) == n && fclose(content) == 0);
        snprintf(name, sizeof(name), "mv %s.new %s.content", out, out);
        CHECK(system(name) == 0);
    }
}

static void start_kernel(const char *kernel, const char *initrd, const char *line)
{
    int k = open(kernel, O_RDONLY), i = open(initrd, O_RDONLY);

    CHECK(k >= 0 && i >= 0);
    if (syscall(SYS_kexec_file_load, k, i, strlen(line) + 1, line, 0ul)) {
        perror("kexec_file_load");
        exit(1);
    }
    syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
    perror("reboot");
    exit(1);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    unsigned n = argc > 2 ? atoi(argv[2]) : 0;

    if (!strcmp(what, "memory") && n) {
        memory(n);
    } else if (!strcmp(what, "code")) {
        code();
    } else if (!strcmp(what, "switch") && n) {
        switches(n);
    } else if (!strcmp(what, "atomic") && n) {
        atomics(n);
    } else if (!strcmp(what, "pages") && n && argc == 4) {
        pages(n, argv[3]);
    } else if (!strcmp(what, "kexec") && argc == 5) {
        start_kernel(argv[2], argv[3], argv[4]);
    } else {
        return 2;
    }
    return 0;
}
