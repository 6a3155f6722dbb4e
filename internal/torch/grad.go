package torch

// #include "native/koala_native.h"
import "C"

import (
	"github.com/sugarme/gotch/ts"
)

// NoGrad runs f without recording gradients and restores the mode, also when f panics.
// Calls may be nested. (gotch's GradSetEnabled reads the previous mode as an 8-byte
// integer of which C wrote 4, and its NoGrad is not panic-safe.)
func (s *Scope) NoGrad(f func()) {
	before := C.koala_set_grad_mode(0)
	defer func() { C.koala_set_grad_mode(before) }()
	f()
}

// RequireGrad sets whether backward computes a gradient for t, a leaf of a floating point
// type.
func (s *Scope) RequireGrad(t *ts.Tensor, on bool) {
	flag := C.int(0)
	if on {
		flag = 1
	}
	s.native("requires_grad_", func() C.int { return C.koala_set_requires_grad(handle(t), flag) }, t)
}

// HasGrad reports whether t has a gradient.
func HasGrad(t *ts.Tensor) bool { return C.koala_has_grad(handle(t)) != 0 }

// Grad returns t's gradient, or nil if t has none. It shares storage with the gradient
// that backward adds to.
func (s *Scope) Grad(t *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("grad", func() C.int { return C.koala_grad(handle(t), &out) }, t) || out == nil {
		return nil
	}
	return s.take(out)
}

// SetGrad makes g, of t's shape, t's gradient. The gradient shares g's storage.
func (s *Scope) SetGrad(t, g *ts.Tensor) {
	s.native("set_grad", func() C.int { return C.koala_set_grad(handle(t), handle(g)) }, t, g)
}

// ClearGrad frees t's gradient; the next backward makes a new one.
func (s *Scope) ClearGrad(t *ts.Tensor) {
	s.native("clear_grad", func() C.int { return C.koala_clear_grad(handle(t)) }, t)
}

// Backward computes the gradients of the scalar loss and adds them to the gradients of
// its leaves.
func (s *Scope) Backward(loss *ts.Tensor) {
	s.BackwardFrom([]*ts.Tensor{loss}, nil)
}

// BackwardFrom is Backward from several tensors with given output gradients. A nil
// gradient means 1, for a scalar.
func (s *Scope) BackwardFrom(tensors, gradients []*ts.Tensor) {
	if len(tensors) == 0 {
		return
	}
	roots, grads := make([]C.koala_tensor, len(tensors)), make([]C.koala_tensor, len(tensors))
	for i, t := range tensors {
		roots[i] = handle(t)
		if gradients != nil {
			grads[i] = handle(gradients[i])
		}
	}
	s.native("backward", func() C.int { return C.koala_backward(&roots[0], &grads[0], C.int(len(roots))) }, tensors...)
}
