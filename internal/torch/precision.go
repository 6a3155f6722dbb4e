package torch

// #include "native/koala_native.h"
import "C"

import (
	"fmt"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/processor"
)

// BFloat16 runs f with matrix products in bfloat16 on device (libtorch's autocast).
// Parameters and sums stay float32. Backward may run after f. Of recurrent layers on a CPU
// the products with the state stay in float32, and without AMX all products: their output
// layer takes most of the time.
func (s *Scope) BFloat16(device gotch.Device, f func()) {
	cuda := C.int(0)
	if device.IsCuda() {
		cuda = 1
	}
	if C.koala_autocast(cuda, 1) != 0 {
		s.Fail(fmt.Errorf("autocast: %w", nativeError()))
		return
	}
	defer C.koala_autocast(cuda, 0)
	f()
}

// TF32 runs f with CUDA's products of float32 matrices in TF32, whose mantissa has 10 bits.
// Backward must run within f. Other devices have no TF32.
func TF32(f func()) {
	before := C.koala_tf32(1)
	defer C.koala_tf32(before)
	f()
}

// AllowsTF32 reports whether TF32 is on.
func AllowsTF32() bool {
	on := C.koala_tf32(0)
	C.koala_tf32(on)
	return on != 0
}

// FastBFloat16 reports whether the device has instructions for bfloat16 products. Without
// them bfloat16 is slower than float32.
func FastBFloat16(device gotch.Device) bool {
	return device.IsCuda() || processor.BFloat16()
}
