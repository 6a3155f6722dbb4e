package torch

// #include "native/koala_native.h"
import "C"

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"runtime"
)

// Main prepares this process for a long computation and runs f: the goroutine stays on
// its thread, the allocator keeps freed memory, denormal numbers are zero
// (native/runtime.cpp says why), and an allocation beyond the free memory fails
// (limitMemory). threads is the number of threads that one operator may use, 0 for
// libtorch's choice, the number of cores. It returns an error if KOALA_LM_ISA names an
// instruction set that the processor lacks.
func Main(threads int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	C.koala_tune_allocator()
	defer limitMemory()()
	C.koala_flush_denormals(1)
	defer C.koala_flush_denormals(0)
	if C.koala_check_isa() != 0 {
		return nativeError()
	}
	if err := SetThreads(threads); err != nil {
		return err
	}
	return f()
}

// SetThreads sets how many threads one operator may use; 0 leaves it as it is.
func SetThreads(n int) error {
	if n < 0 {
		return fmt.Errorf("threads: %d is negative", n)
	}
	if n > 0 && C.koala_set_threads(C.int(n)) != 0 {
		return fmt.Errorf("threads: %w", nativeError())
	}
	return nil
}

// Threads returns how many threads one operator may use.
func Threads() int { return int(C.koala_threads()) }

// ReturnBlocks makes freed tensors of a megabyte and more go back to the operating
// system at once, from now on in this process. Steps take longer and need less memory.
func ReturnBlocks() { C.koala_return_blocks() }

// Trim gives the memory of freed tensors back to the operating system, once.
func Trim() { C.koala_trim() }

// Seed sets libtorch's generators to a state that depends only on the run's seed, the
// step and the stream (such as the rank of a process), not on earlier draws. So a run
// resumed at a step draws the same numbers as one that was never interrupted.
func Seed(seed uint64, step int64, stream int64) error {
	h := fnv.New64a()
	var b [24]byte
	binary.LittleEndian.PutUint64(b[0:], seed)
	binary.LittleEndian.PutUint64(b[8:], uint64(step))
	binary.LittleEndian.PutUint64(b[16:], uint64(stream))
	h.Write(b[:])
	if C.koala_manual_seed(C.uint64_t(mix(h.Sum64()))) != 0 {
		return fmt.Errorf("seed: %w", nativeError())
	}
	return nil
}

// mix is the finaliser of SplitMix64 (Steele et al. 2014): neighbouring inputs
// give unrelated outputs.
func mix(z uint64) uint64 {
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// LibtorchVersion returns the version of the library that is loaded.
func LibtorchVersion() string { return C.GoString(C.koala_libtorch_version()) }

// CPUCapability names the instruction set that libtorch uses: DEFAULT, AVX2, AVX512.
func CPUCapability() string { return C.GoString(C.koala_cpu_capability()) }

// ISA names the instruction set of this project's own kernels, a level of x86-64: v4
// (AVX-512), v3 (AVX2) or default. It is the best that the processor has, unless the
// environment variable KOALA_LM_ISA names another.
func ISA() string { return C.GoString(C.koala_isa()) }

// MKLISA is the same for the matrix products of MKL, "" if libtorch has another library
// for them. It follows the processor, whoever made it, unless the environment variable
// KOALA_LM_MKL is vendor (native/blas.cpp).
func MKLISA() string { return C.GoString(C.koala_mkl_isa()) }
