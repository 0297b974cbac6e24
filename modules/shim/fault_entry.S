/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What ftrace calls at the start of handle_mm_fault() while somebody traces.
 *
 * For a task that is not traced it goes on as if nothing had been. For one
 * that is, it runs the rest of the function as a call of its own, and hands
 * the result to virgo_fault_end() before it returns to the caller of
 * handle_mm_fault(): what BPF's trampolines do for fentry and fexit.
 *
 * On entry, above the usual stack: 0(%rsp) the place in handle_mm_fault()
 * behind its call to ftrace, 8(%rsp) the place in its caller.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/asm.h>
#include <asm/ibt.h>
#include <asm/nospec-branch.h>
#include <asm/orc_types.h>
#include <asm/unwind_hints.h>

/* Room for struct virgo_fault_frame, and for the four arguments above it. */
#define FRAME	64
#define ARGS	32

	.text
SYM_FUNC_START(virgo_fault_entry)
	ENDBR
	pushq	%rbp
	movq	%rsp, %rbp
	subq	$(FRAME + ARGS), %rsp
	movq	%rdi, -8(%rbp)
	movq	%rsi, -16(%rbp)
	movq	%rdx, -24(%rbp)
	movq	%rcx, -32(%rbp)
	movq	%rsp, %r8
	call	virgo_fault_begin
	movq	-8(%rbp), %rdi
	movq	-16(%rbp), %rsi
	movq	-24(%rbp), %rdx
	movq	-32(%rbp), %rcx
	testl	%eax, %eax
	jz	.Luntraced

	ANNOTATE_INTRA_FUNCTION_CALL
	call	.Lbody
	/* Behind the call, as above it. */
	UNWIND_HINT type=UNWIND_HINT_TYPE_CALL sp_reg=ORC_REG_BP sp_offset=16
	movl	%eax, -8(%rbp)
	movq	%rsp, %rdi
	movl	%eax, %esi
	call	virgo_fault_end
	movl	-8(%rbp), %eax
	leave
	/* Not into handle_mm_fault() again, but to its caller. */
	addq	$8, %rsp
	UNWIND_HINT_FUNC
	RET

.Luntraced:
	leave
	RET

.Lbody:
	/*
	 * A return, as no indirect call may go to the middle of a function
	 * where the CPU tracks them (IBT).
	 */
	pushq	8(%rbp)
	UNWIND_HINT_FUNC
	RET
SYM_FUNC_END(virgo_fault_entry)
