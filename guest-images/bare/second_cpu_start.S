/*
 * How a second virtual CPU gets from its start-up interrupt to ring 3: from real mode straight to
 * long mode (CR0.PE and CR0.PG at once), with the tables of start.S. No task state is loaded: it
 * uses no ports.
 */
#include "second_cpu.h"

#define CR0_PE_PG     0x80000001
#define CR4_PAE	      0x00000020
#define MSR_EFER      0xc0000080
#define EFER_SCE_LME  0x00000101
#define MSR_STAR      0xc0000081
#define SEL_DATA      0x10
#define SEL_CODE64    0x18
#define SEL_SYSRET    0x20
#define SEL_USER_DATA (0x28 | 3)
#define EFLAGS_CLEAR  0x2

	.section .text
	.globl second_cpu_begin
	.globl second_cpu_end
	.code16
second_cpu_begin:
	cli
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	(second_cpu_gdt_pointer - second_cpu_begin)
	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$page_map, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_SCE_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PE_PG, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_CODE64, $second_cpu_long_mode
	.balign 8
second_cpu_gdt_pointer:
	.word	0xffff			/* more than there is; what is used is there */
	.long	gdt
second_cpu_end:

	.code64
second_cpu_long_mode:
	movl	$SEL_DATA, %eax
	movl	%eax, %ss
	movl	$SEL_USER_DATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	$MSR_STAR, %ecx
	xorl	%eax, %eax
	movl	$(SEL_SYSRET << 16), %edx
	wrmsr
	movl	$second_cpu_entry, %ecx
	movl	$EFLAGS_CLEAR, %r11d
	movl	$second_cpu_stack_top, %esp
	sysretq

second_cpu_entry:
	xorl	%ebp, %ebp
	call	second_cpu_work
	ud2

	.section .bss
	.balign 4096
	.fill 8192
second_cpu_stack_top:

	.section .note.GNU-stack, "", @progbits
