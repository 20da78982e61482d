/* Memory bandwidth and latency: membench copy|set|latency MIB ROUNDS
 *
 * copy and set print bytes per second of memcpy and memset over a buffer of MIB MiB. latency prints nanoseconds for each
 * load of a chain through all cache lines of the buffer in random order, so that no prefetcher helps. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE = 64 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static double bandwidth(size_t bytes, int rounds, int copy)
{
    char *from = aligned_alloc(LINE, bytes), *to = aligned_alloc(LINE, bytes);
    if (!from || !to)
        exit(3);
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    double start = now();
    for (int i = 0; i < rounds; i++) {
        if (copy)
            memcpy(to, from, bytes);
        else
            memset(to, i, bytes);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
    return (double)bytes * rounds / (now() - start);
}

/* Sattolo's shuffle gives one cycle through all lines. */
static double latency(size_t bytes, int rounds)
{
    size_t lines = bytes / LINE;
    char *buffer = aligned_alloc(LINE, bytes);
    uint32_t *order = malloc(lines * sizeof *order);
    if (!buffer || !order)
        exit(3);
    for (size_t i = 0; i < lines; i++)
        order[i] = i;
    uint64_t state = 88172645463325252ull;
    for (size_t i = lines - 1; i > 0; i--) {
        size_t j = next_random(&state) % i;
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (size_t i = 0; i < lines; i++)
        *(void **)(buffer + (size_t)order[i] * LINE) = buffer + (size_t)order[(i + 1) % lines] * LINE;
    void **at = (void **)buffer;
    size_t steps = lines * rounds;
    for (size_t i = 0; i < lines; i++)
        at = *at;
    double start = now();
    for (size_t i = 0; i < steps; i++)
        at = *at;
    __asm__ volatile("" : : "r"(at));
    return (now() - start) * 1e9 / steps;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t bytes = (size_t)atol(argv[2]) << 20;
    int rounds = atoi(argv[3]);
    if (!bytes || rounds < 1)
        return 2;
    double value;
    if (!strcmp(argv[1], "copy"))
        value = bandwidth(bytes, rounds, 1);
    else if (!strcmp(argv[1], "set"))
        value = bandwidth(bytes, rounds, 0);
    else if (!strcmp(argv[1], "latency"))
        value = latency(bytes, rounds);
    else
        return 2;
    printf("value %.6g\n", value);
    return 0;
}
