//go:build !amd64

package tokenizer

func prefetchLines(*[1 << shortBits][2]shortSlot, *keyedPiece, int) {}
