package torch

// #include "native/koala_native.h"
import "C"

import (
	"fmt"

	"github.com/sugarme/gotch"
)

// BFloat16 runs f with matrix products in bfloat16 on device; tensors that are
// kept, and what is summed up, stay float32 (libtorch's autocast). Gradients of
// what f computed may be taken after it. Recurrent layers on the CPU stay as they
// are: their output layer is what takes time.
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

// FastBFloat16 says whether the device multiplies bfloat16 by itself; one that
// does not is slower with it than with float32.
func FastBFloat16(device gotch.Device) bool {
	return device.IsCuda() || C.koala_fast_bfloat16() != 0
}
