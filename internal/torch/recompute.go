package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
//
// void koalaFunction(uintptr_t id, koala_tensor x, void *result);
import "C"

import (
	"runtime/cgo"
	"unsafe"

	"github.com/sugarme/gotch/ts"
)

// A function of a tensor, made of operators in s.
type function func(s *Scope, x *ts.Tensor) *ts.Tensor

// Recompute returns f(x) and keeps nothing else of it until backward, which computes f
// again with the same random numbers (gradient checkpointing, Chen et al. 2016). Backward
// must run before the scope ends. Each time f gets a scope of its own.
func (s *Scope) Recompute(x *ts.Tensor, f func(s *Scope, x *ts.Tensor) *ts.Tensor) *ts.Tensor {
	id := cgo.NewHandle(function(f))
	s.functions = append(s.functions, id)
	var out C.koala_tensor
	if !s.native("recompute", func() C.int {
		return C.koala_recompute(handle(x), C.koala_function(C.koalaFunction), C.uintptr_t(id), &out)
	}, x) {
		return nil
	}
	return s.take(out)
}

//export koalaFunction
func koalaFunction(id C.uintptr_t, x C.koala_tensor, result unsafe.Pointer) {
	f := cgo.Handle(id).Value().(function)
	err := Do(func(s *Scope) error {
		if y := f(s, ts.FromCtensor(unsafe.Pointer(x))); s.OK() {
			C.koala_return(result, handle(y), nil)
		}
		return nil
	})
	if err != nil {
		text := C.CString(err.Error())
		defer C.free(unsafe.Pointer(text))
		C.koala_return(result, nil, text)
	}
}
