package tokenizer

// prefetchLines asks for the lines of n pieces. A load would do so too, but the processor waits
// for one before it goes far beyond it. A piece without a line asks for memory before the
// lines, which is never an error.
//
//go:noescape
func prefetchLines(lines *[1 << shortBits][2]shortSlot, pieces *keyedPiece, n int)
