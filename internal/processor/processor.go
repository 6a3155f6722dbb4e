// Package processor says what this machine's processor can do, without libtorch.
package processor

import "golang.org/x/sys/cpu"

// BFloat16 reports whether the processor has instructions for products of bfloat16
// numbers: AVX512_BF16, which every processor with AMX for bfloat16 has too.
func BFloat16() bool { return cpu.X86.HasAVX512BF16 }
