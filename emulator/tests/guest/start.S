/*
 * Test firmware for SEV-SNP guests: from the reset vector to C
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * An image for -bios, 128 KiB below 4 GiB.  The image is memory of the guest's,
 * validated and writable, so data and stack lie in it.
 */
#define C_BIT_HIGH (1 << (51 - 32))
#define PAGE_TABLES 0x100000            /* in the first metadata section */
#define SHARED_BASE 0x200000            /* 2 MiB mapped without the C-bit */

        .section .note.GNU-stack, "", @progbits
        .section .boot, "ax"
        .code32
        .globl  protected_mode
protected_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     $PAGE_TABLES, %edi
        mov     $(0x6000 / 4), %ecx
        rep stosl
        /* Level 4, level 3, four tables of 2 MiB pages: 0 to 4 GiB. */
        movl    $(PAGE_TABLES + 0x1003), PAGE_TABLES
        movl    $C_BIT_HIGH, PAGE_TABLES + 4
        mov     $(PAGE_TABLES + 0x2003), %eax
        mov     $(PAGE_TABLES + 0x1000), %edi
1:      mov     %eax, (%edi)
        movl    $C_BIT_HIGH, 4(%edi)
        add     $0x1000, %eax
        add     $8, %edi
        cmp     $(PAGE_TABLES + 0x1020), %edi
        jne     1b
        mov     $0x83, %eax
        mov     $(PAGE_TABLES + 0x2000), %edi
2:      mov     %eax, (%edi)
        movl    $C_BIT_HIGH, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        cmp     $(PAGE_TABLES + 0x6000), %edi
        jne     2b
        movl    $0, PAGE_TABLES + 0x2000 + 8 * (SHARED_BASE >> 21) + 4
        mov     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        mov     %eax, %cr4
        mov     $PAGE_TABLES, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx
        rdmsr
        or      $0x100, %eax
        wrmsr
        mov     $0x80010033, %eax
        mov     %eax, %cr0
        ljmp    $0x18, $long_mode

        .code64
long_mode:
        lea     stack_end(%rip), %rsp
        call    main
        hlt

        /* #VC: note the exit code, go on behind the instruction. */
        .globl  vc_entry
vc_entry:
        push    %rax
        mov     8(%rsp), %rax
        mov     %rax, vc_code(%rip)
        mov     vc_skip(%rip), %rax
        add     %rax, 16(%rsp)
        pop     %rax
        add     $8, %rsp
        iretq

        /* Further vCPUs start here with the state that main() made up. */
        .globl  ap_entry
ap_entry:
        call    ap_main
        hlt

        .section .reset16, "ax"
        .code16
real_mode:
        cli
        lgdtl   %cs:(gdt_pointer - 0xffff0000)
        mov     $0x11, %eax
        mov     %eax, %cr0
        ljmpl   $0x08, $protected_mode

        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .section .metadata, "a"
        /* What QEMU finds through the table of GUIDs at the end. */
metadata:
        .ascii  "ASEV"
        .long   metadata_end - metadata, 1, 3
        .long   0x100000, 0x10000, 1    /* validated, zero */
        .long   0x110000, 0x1000, 2     /* secrets */
        .long   0x111000, 0x1000, 3     /* CPUID */
metadata_end:

table:
        .long   0x92                    /* back from the end of the image */
        .word   22
        .long   0xdc886566
        .word   0x984a, 0x4798
        .byte   0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc
        .long   0xfffffff0              /* reset block: where APs of SEV-ES start */
        .word   22
        .long   0x00f771de
        .word   0x1a7e, 0x4fcb
        .byte   0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e
        .word   table_end - table
        .long   0x96b582de
        .word   0x1fb2, 0x45f7
        .byte   0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d
table_end:

        .section .vector, "ax"
        .code16
        jmp     real_mode
        .balign 16
image_end:
