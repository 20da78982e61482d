/*
 * Entry, exceptions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "machine.h"

struct trap trap;

static struct {
    uint64_t low, high;
} idt[32] __attribute__((aligned(16)));

/* One stub of 16 bytes for each vector: number, then the common part. */
asm(".section .text\n"
    ".balign 16\n"
    "stubs:\n"
    ".set vector, 0\n"
    ".rept 32\n"
    "    .balign 16\n"
    "    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 29 || vector == 30)\n"
    "    pushq $0\n"
    "    .endif\n"
    "    pushq $vector\n"
    "    jmp common\n"
    "    .set vector, vector + 1\n"
    ".endr\n"
    "common:\n"
    "    pushq %rax\n"
    "    movq 8(%rsp), %rax\n"
    "    movq %rax, trap + 8(%rip)\n"
    "    movq 16(%rsp), %rax\n"
    "    movq %rax, trap + 16(%rip)\n"
    "    incq trap + 24(%rip)\n"
    "    movq trap(%rip), %rax\n"
    "    movq %rax, 24(%rsp)\n"
    "    popq %rax\n"
    "    addq $16, %rsp\n"
    "    iretq\n");
extern char stubs[];

void traps_init(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = { sizeof(idt) - 1, (uint64_t)idt };

    for (unsigned i = 0; i < 32; i++) {
        uint64_t at = (uint64_t)stubs + 16 * i;

        idt[i].low = (at & 0xffff) | 0x18ul << 16 | 0x8e00ul << 32 |
                     (at >> 16 & 0xffff) << 48;
        idt[i].high = at >> 32;
    }
    asm volatile("lidt %0" : : "m"(pointer));
}

void bare_main(void);

asm(".section .entry, \"ax\"\n"
    ".globl main_entry\n"
    "main_entry:\n"
    "    call bare_main\n"
    "1:  hlt\n"
    "    jmp 1b\n");

/* The compiler may ask for it. */
void *memset(void *to, int value, uint64_t size)
{
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return to;
}
