/* The blob as it is, in the read-only data of the program. */
#if defined(__APPLE__)
	.const_data
	.globl _sparsify_blob
	.private_extern _sparsify_blob
	.balign 64
_sparsify_blob:
	.incbin "weights.bin"
#else
	.section .rodata
	.globl sparsify_blob
	.hidden sparsify_blob
	.balign 64
sparsify_blob:
	.incbin "weights.bin"
	.byte 0
	.section .note.GNU-stack,"",%progbits
#endif
