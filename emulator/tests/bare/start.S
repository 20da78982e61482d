/*
 * A firmware image that is a whole guest: from the reset vector to long mode
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Memory: page tables at 1 MiB, the program at 0x110000.  The image itself is
 * a ROM: that is what differs from the test firmware for SEV-SNP guests
 * (../guest), whose image is the guest's own memory.  Linear addresses below 4 GiB map the
 * same guest address as private; those 512 GiB above map it as shared.
 */
#define TABLES 0x100000
#define PROGRAM 0x110000
#define STACK 0x1f0000
#define END 0x200000
#define C_BIT_HIGH 0x80000          /* bit 51 in the upper half of an entry */

    .section .rom, "ax"
program:
    .incbin "program.bin"
    .balign 4
program_end:

    .balign 16
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        /* 0x08: code, 32 bits */
    .quad 0x00cf93000000ffff        /* 0x10: data */
    .quad 0x00af9b000000ffff        /* 0x18: code, 64 bits */
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    .code16
real_mode:
    cli
    lgdtl %cs:(gdt_pointer - 0xffff0000)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $0x08, $protected_mode

    .code32
protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    cld
    xorl %eax, %eax                 /* private memory starts as noise */
    movl $TABLES, %edi
    movl $(END - TABLES) / 4, %ecx
    rep stosl
    movl $program, %esi
    movl $PROGRAM, %edi
    movl $(program_end - program) / 4, %ecx
    rep movsl

    /* One directory pointer table each for private and shared. */
    movl $TABLES + 0x1003, TABLES
    movl $C_BIT_HIGH, TABLES + 4
    movl $TABLES + 0x2003, TABLES + 8
    movl $C_BIT_HIGH, TABLES + 12
    movl $4, %ecx
1:  movl %ecx, %ebx
    shll $12, %ebx                  /* directories at 0x3000 and 0x7000 */
    leal TABLES + 0x2003(%ebx), %eax
    movl %eax, TABLES + 0x1000 - 8(, %ecx, 8)
    movl $C_BIT_HIGH, TABLES + 0x1000 - 4(, %ecx, 8)
    addl $0x4000, %eax
    movl %eax, TABLES + 0x2000 - 8(, %ecx, 8)
    movl $C_BIT_HIGH, TABLES + 0x2000 - 4(, %ecx, 8)
    loop 1b
    xorl %ecx, %ecx
2:  movl %ecx, %eax                 /* 2,048 pages of 2 MiB */
    shll $21, %eax
    orl $0x83, %eax
    movl %eax, TABLES + 0x3000(, %ecx, 8)
    movl $C_BIT_HIGH, TABLES + 0x3004(, %ecx, 8)
    movl %eax, TABLES + 0x7000(, %ecx, 8)
    movl $0, TABLES + 0x7004(, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jne 2b

    movl %cr4, %eax
    orl $0x620, %eax                /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $TABLES, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax                /* long mode */
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x18, $long_mode

    .code64
long_mode:
    movl $STACK, %esp
    movl $PROGRAM, %eax
    jmp *%rax

    .code16
ap:
    cli
    hlt
    jmp ap

    /* What QEMU looks for in a firmware image: a table of GUIDs. */
    .section .guids, "a"
guids:
    .long ap                                /* where further vCPUs start */
    .word 22
    .byte 0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f
    .byte 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e
    .word guids_end - guids
    .byte 0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45
    .byte 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d
guids_end:
    .skip 16                                /* to 0xfffffff0 */

    .section .reset, "ax"
    .code16
    jmp real_mode
    .balign 16, 0x90
