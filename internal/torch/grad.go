package torch

// #include "native/koala_native.h"
import "C"

import (
	"github.com/sugarme/gotch/ts"
)

// NoGrad runs f without recording gradients and restores the mode, also when f
// panics. A call inside another is fine. (gotch's GradSetEnabled reads the mode
// before as an 8-byte integer where C wrote 4, and its NoGrad is not
// panic-safe.)
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

// Grad returns t's gradient, or nil where t has none. It shares storage with the gradient
// that backward adds to.
func (s *Scope) Grad(t *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("grad", func() C.int { return C.koala_grad(handle(t), &out) }, t) || out == nil {
		return nil
	}
	return s.take(out)
}

// SetGrad makes g, of t's shape, the gradient of t, which shares its storage.
func (s *Scope) SetGrad(t, g *ts.Tensor) {
	s.native("set_grad", func() C.int { return C.koala_set_grad(handle(t), handle(g)) }, t, g)
}

// ClearGrad frees t's gradient; the next backward makes a new one.
func (s *Scope) ClearGrad(t *ts.Tensor) {
	s.native("clear_grad", func() C.int { return C.koala_clear_grad(handle(t)) }, t)
}

// Backward adds the gradients of the scalar loss to those of the leaves it depends on.
func (s *Scope) Backward(loss *ts.Tensor) {
	s.BackwardFrom([]*ts.Tensor{loss}, nil)
}

// BackwardFrom is Backward from several tensors with the gradient of each. nil gradients
// mean 1, for scalars.
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
