#include "go_asm.h"
#include "textflag.h"

// func prefetchLines(lines *[1 << shortBits][2]shortSlot, pieces *keyedPiece, n int)
TEXT ·prefetchLines(SB), NOSPLIT, $0-24
	MOVQ lines+0(FP), AX
	MOVQ pieces+8(FP), BX
	MOVQ n+16(FP), CX
	JMP  check

next:
	MOVLQSX    keyedPiece_line(BX), DX
	IMULQ      $(2*shortSlot__size), DX
	PREFETCHT0 (AX)(DX*1)
	ADDQ       $keyedPiece__size, BX
	DECQ       CX

check:
	TESTQ CX, CX
	JG    next
	RET
