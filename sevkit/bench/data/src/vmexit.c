/* What an exit to the hypervisor costs: vmexit cpuid|msr|port|hypercall ROUNDS
 *
 * Prints nanoseconds for each: the mean of at least ROUNDS rounds and a fifth of a second (without KVM nothing exits, and
 * 20,000 rounds were over in less than a millisecond), then quantiles of ROUNDS single ones (the clock is in those).
 * In an SEV-ES or SEV-SNP guest these instructions raise #VC first, and the guest's kernel
 * asks the hypervisor through the GHCB (APM volume 2, section 15.35). The MSR is read through /dev/cpu/0/msr, so that a
 * system call is in its number; `null` is that system call alone (a read of /dev/zero) to take off.
 * Exit status 4: this machine does not let us (no msr driver, no ioperm, instruction not supported). */
#include <cpuid.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

static const double least = 2e8; /* nanoseconds */

static sigjmp_buf out;

static void refused(int number)
{
    siglongjmp(out, number);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void use_cpuid(int file)
{
    unsigned a, b, c, d;
    (void)file;
    __cpuid_count(0, 0, a, b, c, d);
    __asm__ volatile("" : : "r"(a), "r"(b), "r"(c), "r"(d));
}

static void use_port(int file)
{
    (void)file;
    inb(0x80);
}

static void use_file(int file)
{
    uint64_t value;
    if (pread(file, &value, sizeof value, 0x1b) != sizeof value) /* IA32_APIC_BASE: intercepted by every hypervisor */
        exit(4);
}

/* Function 0xffffffff is not defined: the hypervisor answers with an error at once. */
static void use_hypercall(int file)
{
    long result = 0xffffffff;
    (void)file;
    __asm__ volatile("vmmcall" : "+a"(result) : : "memory");
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void quantiles(void (*use)(int), int file, long rounds)
{
    double *times = calloc(rounds, sizeof *times);
    if (!times)
        return;
    for (long i = 0; i < rounds; i++) {
        double start = now();
        use(file);
        times[i] = now() - start;
    }
    qsort(times, rounds, sizeof *times, by_size);
    printf("p10 %.6g\np50 %.6g\np90 %.6g\np99 %.6g\n", times[rounds / 10], times[rounds / 2], times[rounds * 9 / 10],
           times[rounds * 99 / 100]);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long rounds = atol(argv[2]);
    void (*volatile use)(int) = NULL; /* volatile: read after a jump out of a signal handler */
    volatile int file = -1;
    if (!strcmp(argv[1], "cpuid"))
        use = use_cpuid;
    else if (!strcmp(argv[1], "port")) {
        if (ioperm(0x80, 1, 1))
            return 4;
        use = use_port;
    } else if (!strcmp(argv[1], "hypercall"))
        use = use_hypercall;
    else if (!strcmp(argv[1], "msr") || !strcmp(argv[1], "null")) {
        file = open(argv[1][0] == 'm' ? "/dev/cpu/0/msr" : "/dev/zero", O_RDONLY);
        if (file < 0)
            return 4;
        use = use_file;
    }
    if (!use || rounds < 1)
        return 2;
    signal(SIGILL, refused);
    signal(SIGSEGV, refused);
    if (sigsetjmp(out, 1))
        return 4;
    for (long i = 0; i < rounds / 10 + 1; i++)
        use(file);
    double start = now(), taken;
    long done = 0;
    do {
        for (long i = 0; i < rounds; i++)
            use(file);
        done += rounds;
        taken = now() - start;
    } while (taken < least);
    printf("value %.6g\n", taken / done);
    quantiles(use, file, rounds);
    return 0;
}
