package torch

import (
	"errors"
	"runtime"

	"github.com/sugarme/gotch/ts"
)

// A Scope owns the tensors and scalars made through it, keeps the first error,
// and turns every call after that into a no-op that returns nil. A Scope is for
// one goroutine.
type Scope struct {
	tensors []*ts.Tensor
	scalars []*ts.Scalar
	err     error
}

// NewScope opens a scope; the caller closes it. [Do] is the usual way.
func NewScope() *Scope { return &Scope{} }

// Do runs f with a scope that ends with it, also when f panics, and returns f's
// error or else the scope's. The goroutine stays on its thread meanwhile.
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

// Close frees all that the scope owns. The scope can be used again.
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
	s.tensors, s.scalars = s.tensors[:0], s.scalars[:0]
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

// Keep takes t out of the scope's ownership: it outlives the scope, and the
// caller frees it with Drop. It returns t.
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

// Apply runs one operator: name and inputs are for the error, f makes the result,
// which the scope then owns. A nil input is an error: it is the result of a call
// that failed, in another scope.
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

var errNilTensor = errors.New("a nil tensor came in")

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
