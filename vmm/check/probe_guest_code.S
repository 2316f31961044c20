/*
 * What the probe guest executes, in 64-bit ring 0 with interrupts off. Each probe ends by writing
 * PROBE_PASS or PROBE_FAIL to PROBE_PORT. The code is position-independent data for ebb itself; see
 * probe_guest.c for the memory around it.
 */
#ifdef __CET__
#include <cet.h> /* marks this file as fit for it */
#endif
#include "vmm/check/probe_guest_layout.h"

	.section .rodata
	.code64

	.globl probe_guest_code
	.globl probe_guest_code_end
	.globl probe_guest_cmpxchg16b
	.globl probe_guest_xrstor
	.globl probe_guest_fxrstor
	.globl probe_guest_int3
	.globl probe_guest_iretq
	.globl probe_guest_iretq_user
	.globl probe_guest_lretq
	.globl probe_guest_loop
	.globl probe_guest_pass

	.balign 16
probe_guest_code:

probe_guest_pass:
	movb	$PROBE_PASS, %al
	outb	%al, $PROBE_PORT
1:	jmp	1b

fail:
	movb	$PROBE_FAIL, %al
	outb	%al, $PROBE_PORT
1:	jmp	1b

probe_guest_cmpxchg16b:
	movl	$PROBE_DATA, %edi
	movq	$1, (%rdi)
	movq	$2, 8(%rdi)
	movl	$1, %eax
	movl	$2, %edx
	movl	$3, %ebx
	movl	$4, %ecx
	lock cmpxchg16b (%rdi)
	jnz	fail
	cmpq	$3, (%rdi)
	jne	fail
	cmpq	$4, 8(%rdi)
	jne	fail
	jmp	probe_guest_pass

	/* The area is zeros: every component goes to its initial state. */
probe_guest_xrstor:
	movl	$PROBE_DATA, %edi
	movl	$3, %eax
	xorl	%edx, %edx
	xrstor	(%rdi)
	jmp	probe_guest_pass

probe_guest_fxrstor:
	movl	$PROBE_DATA, %edi
	fxrstor	(%rdi)
	jmp	probe_guest_pass

	/* The IDT's gate 3 leads to probe_guest_pass. */
probe_guest_int3:
	int3
	jmp	fail

probe_guest_iretq:
	movq	%rsp, %rdx
	pushq	$PROBE_DATA_SELECTOR
	pushq	%rdx
	pushfq
	pushq	$PROBE_CODE_SELECTOR
	leaq	probe_guest_pass(%rip), %rax
	pushq	%rax
	iretq
	jmp	fail

	/* To ring 3, as a kernel starts a process; IOPL 3 lets it report. */
probe_guest_iretq_user:
	movq	%rsp, %rdx
	pushq	$PROBE_USER_DATA_SELECTOR
	pushq	%rdx
	pushq	$PROBE_USER_RFLAGS
	pushq	$PROBE_USER_CODE_SELECTOR
	leaq	probe_guest_pass(%rip), %rax
	pushq	%rax
	iretq
	jmp	fail

probe_guest_lretq:
	pushq	$PROBE_CODE_SELECTOR
	leaq	probe_guest_pass(%rip), %rax
	pushq	%rax
	lretq
	jmp	fail

probe_guest_loop:
	movl	$PROBE_LOOP_COUNT, %ecx
1:	decl	%ecx
	jnz	1b
	jmp	probe_guest_pass

probe_guest_code_end:

	.section .note.GNU-stack, "", @progbits
