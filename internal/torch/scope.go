package torch

// #include "native/koala_native.h"
import "C"

import (
	"errors"
	"runtime"
	"runtime/cgo"
	"unsafe"

	"github.com/sugarme/gotch/ts"
)

// A Scope owns the tensors and scalars made through it, keeps the first error, and turns
// every call after that into a no-op that returns nil. Only one goroutine may use a Scope.
type Scope struct {
	tensors []*ts.Tensor
	scalars []*ts.Scalar
	// functions are those that backward calls (Recompute).
	functions []cgo.Handle
	err       error
}

// NewScope opens a scope, which the caller closes. Prefer [Do].
func NewScope() *Scope { return &Scope{} }

// Do runs f with a new scope and returns f's error or else the scope's. The scope ends
// when f returns or panics. The goroutine stays on its thread meanwhile.
func Do(f func(s *Scope) error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := NewScope()
	defer s.Close()
	if err := f(s); err != nil {
		return err
	}
	return s.err
}

// Close frees everything that the scope owns. The scope can be used again.
func (s *Scope) Close() {
	for i, t := range s.tensors {
		// Freeing runs a destructor that does not throw, so there is no error
		// that a caller could act on.
		_ = t.Drop()
		s.tensors[i] = nil
	}
	for i, sc := range s.scalars {
		_ = sc.Drop()
		s.scalars[i] = nil
	}
	for _, f := range s.functions {
		f.Delete()
	}
	s.tensors, s.scalars, s.functions = s.tensors[:0], s.scalars[:0], nil
}

// Err returns the first error, or nil.
func (s *Scope) Err() error { return s.err }

// OK reports whether there has been no error yet.
func (s *Scope) OK() bool { return s.err == nil }

// Fail records err, unless it is nil or not the first.
func (s *Scope) Fail(err error) {
	if s.err == nil && err != nil {
		s.err = err
	}
}

// Own makes the scope the owner of t, which it returns.
func (s *Scope) Own(t *ts.Tensor) *ts.Tensor {
	if t != nil {
		s.tensors = append(s.tensors, t)
	}
	return t
}

// Keep ends the scope's ownership of t and returns t, which outlives the scope. The caller
// frees it with Drop.
func (s *Scope) Keep(t *ts.Tensor) *ts.Tensor {
	for i := len(s.tensors) - 1; i >= 0; i-- {
		if s.tensors[i] == t {
			s.tensors = append(s.tensors[:i], s.tensors[i+1:]...)
			break
		}
	}
	return t
}

// Free frees a tensor of the scope ahead of the scope's end.
func (s *Scope) Free(t *ts.Tensor) {
	if t != nil {
		_ = s.Keep(t).Drop()
	}
}

// Apply runs one operator and returns its result, which the scope owns. name and inputs
// appear in the error. A nil input is an error: it is the result of a call that failed in
// another scope.
func (s *Scope) Apply(name string, f func() (*ts.Tensor, error), inputs ...*ts.Tensor) *ts.Tensor {
	if !s.ready(name, inputs) {
		return nil
	}
	out, err := f()
	if err != nil {
		s.err = newOpError(name, inputs, err)
		return nil
	}
	s.tensors = append(s.tensors, out)
	return out
}

// ApplyInPlace runs an operator that changes one of its inputs.
func (s *Scope) ApplyInPlace(name string, f func() error, inputs ...*ts.Tensor) {
	if !s.ready(name, inputs) {
		return
	}
	if err := f(); err != nil {
		s.err = newOpError(name, inputs, err)
	}
}

var errNilTensor = errors.New("an input is a nil tensor: an earlier call failed")

func (s *Scope) ready(name string, inputs []*ts.Tensor) bool {
	if s.err != nil {
		return false
	}
	for _, t := range inputs {
		if t == nil {
			s.err = newOpError(name, inputs, errNilTensor)
			return false
		}
	}
	return true
}

// native runs a function of this project's own C++. call returns its error code, 0 for
// success; native reports success.
func (s *Scope) native(name string, call func() C.int, inputs ...*ts.Tensor) bool {
	if !s.ready(name, inputs) {
		return false
	}
	if call() != 0 {
		s.err = newOpError(name, inputs, nativeError())
		return false
	}
	return true
}

// take makes the scope the owner of a tensor that native code returned.
func (s *Scope) take(h C.koala_tensor) *ts.Tensor {
	return s.Own(ts.FromCtensor(unsafe.Pointer(h)))
}

// Float returns a scalar for an operator's argument.
func (s *Scope) Float(v float64) *ts.Scalar {
	sc := ts.FloatScalar(v)
	s.scalars = append(s.scalars, sc)
	return sc
}

// Int returns an integer scalar for an operator's argument.
func (s *Scope) Int(v int64) *ts.Scalar {
	sc := ts.IntScalar(v)
	s.scalars = append(s.scalars, sc)
	return sc
}
