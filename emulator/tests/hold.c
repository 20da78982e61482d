/*
 * Hold three texts in pages of three kinds: explicit huge pages, transparent huge pages, small pages.
 *
 *     hold SEED FOLDER
 *
 * The texts follow from the seed, so that they are in no file and on no command line. The file FOLDER/state says what
 * each text's memory is ("huge 1 transparent 1 small 1": all there and right). SIGUSR1 moves the small pages to swap,
 * SIGUSR2 writes the state anew; both end with FOLDER/done. Built statically by the tests.
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE = 2 << 20, KINDS = 3, WORDS = 4, TEXT = 16 * WORDS };

static const char *const names[KINDS] = {"huge", "transparent", "small"};
static char *memory[KINDS];
static uint64_t seed;

/* splitmix64 (Vigna, public domain): word `index` of the sequence. */
static uint64_t word(uint64_t index)
{
    uint64_t z = seed + (index + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Byte `at` of the text of this kind: 64 hexadecimal digits. No buffer ever has the whole text but its own memory. */
static char digit(int kind, int at)
{
    return "0123456789abcdef"[word((uint64_t)kind * WORDS + at / 16) >> 4 * (15 - at % 16) & 15];
}

static int right(int kind)
{
    for (int page = 0; page < LARGE; page += 4096)
        for (int at = 0; at < TEXT; at++)
            if (memory[kind][page + at] != digit(kind, at))
                return 0;
    return 1;
}

static void say(const char *folder, const char *name, int judge)
{
    char path[256], other[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(other, sizeof other, "%s/new", folder);
    FILE *file = fopen(other, "w");
    for (int kind = 0; judge && kind < KINDS; kind++)
        fprintf(file, "%s %d ", names[kind], right(kind));
    fprintf(file, "\n");
    if (fclose(file) || rename(other, path))
        exit(1);
}

static char *large(int flags)
{
    char *at = mmap(NULL, 2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (at == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return (char *)(((uintptr_t)at + LARGE - 1) & ~(uintptr_t)(LARGE - 1));
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    seed = strtoull(argv[1], NULL, 0);
    memory[0] = large(MAP_HUGETLB);
    memory[1] = large(0);
    madvise(memory[1], LARGE, MADV_HUGEPAGE);
    memory[2] = large(0);
    madvise(memory[2], LARGE, MADV_NOHUGEPAGE);
    for (int kind = 0; kind < KINDS; kind++)
        for (int page = 0; page < LARGE; page += 4096)
            for (int at = 0; at < TEXT; at++)
                memory[kind][page + at] = digit(kind, at);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    say(argv[2], "state", 1);
    for (;;) {
        int number;
        if (sigwait(&signals, &number))
            return 1;
        if (number == SIGUSR1)
            madvise(memory[2], LARGE, 21 /* MADV_PAGEOUT */);
        else
            say(argv[2], "state", 1);
        say(argv[2], "done", 0);
    }
}
