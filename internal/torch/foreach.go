package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
import "C"

import (
	"unsafe"

	"github.com/sugarme/gotch/ts"
)

// Foreach runs an elementwise operator of native/foreach.cpp on each of a, in as few
// kernels of a device as libtorch has for lists. b and v are its second operands, nil for
// an operator without. One whose name ends in _ changes a and returns nil. If there is more
// than one a, all must be [Alike] with their b and have one type, and as first and second
// operand of "dot" they are either all the same tensor or all not.
func (s *Scope) Foreach(name string, a, b []*ts.Tensor, v []float64) []*ts.Tensor {
	handles := func(list []*ts.Tensor) []C.koala_tensor {
		raw := make([]C.koala_tensor, len(list), len(list)+1)
		for i, t := range list {
			raw[i] = handle(t)
		}
		return raw
	}
	first := func(list []C.koala_tensor) *C.koala_tensor {
		if len(list) == 0 {
			return nil
		}
		return &list[0]
	}
	if len(a) == 0 || !s.ready(name, a) || !s.ready(name, b) {
		return nil
	}
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var values *C.double
	if len(v) > 0 {
		values = (*C.double)(&v[0])
	}
	out := make([]C.koala_tensor, len(a))
	inputs := []*ts.Tensor{a[0]}
	if len(b) > 0 {
		inputs = append(inputs, b[0])
	}
	if !s.native(name, func() C.int {
		return C.koala_foreach(text, C.int(len(a)), first(handles(a)), first(handles(b)), values, &out[0])
	}, inputs...) || out[0] == nil {
		return nil
	}
	results := make([]*ts.Tensor, len(a))
	for i := range results {
		results[i] = s.take(out[i])
	}
	return results
}

// Alike reports whether t has no gaps and b, if it is not nil, t's shape and layout.
func Alike(t, b *ts.Tensor) bool { return C.koala_dense_alike(handle(t), handle(b)) != 0 }
