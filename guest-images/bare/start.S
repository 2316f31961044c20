/*
 * Entry of the bare guest: PVH (32-bit, paging off, EBX = struct hvm_start_info) to ring 3.
 *
 * Some KVMs emulate ring 0 instruction by instruction and lack a part of the instruction set, so
 * what runs there is short and plain: load tables that the assembler has filled in, switch paging
 * on, leave for ring 3 by sysret and never come back. Ring 3 may use all I/O ports (by the TSS's
 * bitmap: an IOPL of 3 is not honoured everywhere), has interrupts off, and all memory is mapped for
 * it, page tables included. There is no IDT: any exception is a triple fault.
 */
#define CR0_PE	 0x00000001
#define CR0_PG	 0x80000000
#define CR4_PAE	 0x00000020
#define MSR_EFER 0xc0000080
#define EFER_SCE 0x00000001
#define EFER_LME 0x00000100
#define MSR_STAR 0xc0000081

/* Selectors. sysret takes user code at STAR[63:48] + 16 and user data at STAR[63:48] + 8. */
#define SEL_DATA      0x10
#define SEL_CODE64    0x18
#define SEL_SYSRET    0x20
#define SEL_USER_DATA (0x28 | 3)
#define SEL_USER_CODE (0x30 | 3)
#define SEL_TSS	      0x38

#define EFLAGS_CLEAR 0x2

#define TSS_SIZE   104
#define IO_BITMAP_SIZE 8192

#define PTE_PRESENT_WRITE_USER 0x7
#define PTE_LARGE	       0x80

	.section .note.pvh, "a", @note
	.balign 4
	.long 2f - 1f		/* length of the name */
	.long 4f - 3f		/* length of the description */
	.long 18		/* XEN_ELFNOTE_PHYS32_ENTRY */
1:	.asciz "Xen"
2:	.balign 4
3:	.long pvh_entry
4:	.balign 4

	.section .text.entry, "ax", @progbits
	.code32
	.globl pvh_entry
pvh_entry:
	movl	%ebx, pvh_start_info
	lgdt	gdt_pointer
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$page_map, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$(EFER_LME | EFER_SCE), %eax
	wrmsr
	movl	%cr0, %eax
	orl	$(CR0_PG | CR0_PE), %eax
	movl	%eax, %cr0
	ljmp	$SEL_CODE64, $long_mode

	.code64
long_mode:
	movl	$SEL_DATA, %eax
	movl	%eax, %ss
	movl	$SEL_USER_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	/* The task register; the assembler cannot split the address over the descriptor. */
	movl	$task_state, %eax
	movw	%ax, tss_descriptor + 2
	shrl	$16, %eax
	movb	%al, tss_descriptor + 4
	movb	%ah, tss_descriptor + 7
	movl	$SEL_TSS, %eax
	ltr	%ax

	movl	$MSR_STAR, %ecx
	xorl	%eax, %eax
	movl	$(SEL_SYSRET << 16), %edx
	wrmsr
	movl	$worker_entry, %ecx
	movl	$EFLAGS_CLEAR, %r11d
	movl	$stack_top, %esp
	sysretq

worker_entry:
	xorl	%ebp, %ebp
	movl	pvh_start_info, %edi
	call	worker
	ud2

	.section .data
	.globl gdt
	.globl page_map
	.balign 8
gdt:
	.quad 0
	.quad 0
	.quad 0x00cf92000000ffff	/* SEL_DATA */
	.quad 0x00af9a000000ffff	/* SEL_CODE64 */
	.quad 0				/* SEL_SYSRET: not used itself */
	.quad 0x00cff2000000ffff	/* SEL_USER_DATA */
	.quad 0x00affa000000ffff	/* SEL_USER_CODE */
tss_descriptor:				/* SEL_TSS, 16 bytes: available 64-bit TSS */
	.word TSS_SIZE + IO_BITMAP_SIZE, 0, 0x8900, 0
	.quad 0
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.quad gdt

	.balign 4
pvh_start_info:
	.long 0

/* The first 4 GiB, RAM and MMIO, one to one in pages of 2 MiB. The worker maps what lies above. */
	.balign 4096
page_map:
	.quad page_pointers + PTE_PRESENT_WRITE_USER
	.fill 511, 8, 0
	.globl page_pointers
page_pointers:
	.quad page_directories + PTE_PRESENT_WRITE_USER
	.quad page_directories + 0x1000 + PTE_PRESENT_WRITE_USER
	.quad page_directories + 0x2000 + PTE_PRESENT_WRITE_USER
	.quad page_directories + 0x3000 + PTE_PRESENT_WRITE_USER
	.fill 508, 8, 0
page_directories:
	.set address, 0
	.rept 2048
	.quad address + PTE_PRESENT_WRITE_USER + PTE_LARGE
	.set address, address + 0x200000
	.endr

	.balign 4096
task_state:
	.fill TSS_SIZE - 2
	.word TSS_SIZE			/* where the bitmap begins: all ports allowed */
	.fill IO_BITMAP_SIZE
	.byte 0xff

	.section .bss
	.balign 4096
	.fill 32768
stack_top:

	.section .note.GNU-stack, "", @progbits
