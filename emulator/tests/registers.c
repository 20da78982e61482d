/*
 * Keep values in the registers alone: `registers SEED` computes them from the
 * seed, loads them into r8 to r15 and xmm0 to xmm7, wipes the memory that they
 * were in, and spins. The values are in no code and pass through no buffer.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <stdint.h>
#include <stdlib.h>

/* splitmix64, a public-domain generator by Sebastiano Vigna */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int main(int argc, char **argv)
{
    static uint64_t values[24];
    uint64_t state = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;

    for (int i = 0; i < 24; i++) {
        values[i] = next(&state);
    }
    asm volatile(
        "mov 0(%0), %%r8\n\t" "mov 8(%0), %%r9\n\t"
        "mov 16(%0), %%r10\n\t" "mov 24(%0), %%r11\n\t"
        "mov 32(%0), %%r12\n\t" "mov 40(%0), %%r13\n\t"
        "mov 48(%0), %%r14\n\t" "mov 56(%0), %%r15\n\t"
        "movdqu 64(%0), %%xmm0\n\t" "movdqu 80(%0), %%xmm1\n\t"
        "movdqu 96(%0), %%xmm2\n\t" "movdqu 112(%0), %%xmm3\n\t"
        "movdqu 128(%0), %%xmm4\n\t" "movdqu 144(%0), %%xmm5\n\t"
        "movdqu 160(%0), %%xmm6\n\t" "movdqu 176(%0), %%xmm7\n\t"
        "mov $24, %%ecx\n\t" "mov %0, %%rdi\n\t" "xor %%eax, %%eax\n\t"
        "rep stosq\n\t"
        "1: add $1, %%rax\n\t" "jmp 1b"
        : : "b" (values)
        : "memory", "rax", "rcx", "rdi", "r8", "r9", "r10", "r11",
          "r12", "r13", "r14", "r15");
    return 0;
}
