package torch

// #include "native/koala_native.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// nativeError returns the last failure of this project's own C++ on this thread.
func nativeError() error { return errors.New(C.GoString(C.koala_last_error())) }

func handle(t *ts.Tensor) C.koala_tensor {
	if t == nil {
		return nil
	}
	return C.koala_tensor(t.Ctensor())
}

// Shape returns t's sizes; nil for a nil or undefined tensor.
func Shape(t *ts.Tensor) []int64 {
	if t == nil {
		return nil
	}
	var sizes [8]C.int64_t
	dims := int(C.koala_shape(handle(t), &sizes[0], 8))
	if dims < 0 || dims > 8 {
		return nil
	}
	shape := make([]int64, dims)
	for i := range shape {
		shape[i] = int64(sizes[i])
	}
	return shape
}

// Count returns the number of elements of t.
func Count(t *ts.Tensor) int64 {
	n := int64(1)
	for _, size := range Shape(t) {
		n *= size
	}
	return n
}

// Describe names t for a message: "float32[20, 200]".
func Describe(t *ts.Tensor) string {
	if t == nil {
		return "nil"
	}
	shape := Shape(t)
	if shape == nil {
		return "undefined"
	}
	return DescribeAs(t, shape)
}

// DescribeAs names a tensor of t's type and the given shape.
func DescribeAs(t *ts.Tensor, shape []int64) string {
	return dtypeName(t.DType()) + "[" + strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", ", "), "[]") + "]"
}

func dtypeName(d gotch.DType) string {
	switch d {
	case gotch.Float:
		return "float32"
	case gotch.Double:
		return "float64"
	case gotch.Half:
		return "float16"
	case gotch.BFloat16:
		return "bfloat16"
	case gotch.Int64:
		return "int64"
	case gotch.Int:
		return "int32"
	case gotch.Uint8:
		return "uint8"
	case gotch.Bool:
		return "bool"
	}
	return fmt.Sprintf("dtype%d", d)
}

// element lists the types that a Go slice and a tensor share bit for bit.
type element interface {
	~float32 | ~float64 | ~int64 | ~int32 | ~uint8
}

func dtypeOf[T element]() gotch.DType {
	var zero T
	switch any(zero).(type) {
	case float32:
		return gotch.Float
	case float64:
		return gotch.Double
	case int64:
		return gotch.Int64
	case int32:
		return gotch.Int
	}
	return gotch.Uint8
}

// FromSlice returns a tensor on the CPU with a copy of data in the given shape.
// (gotch's OfSlice encodes element by element through reflection.)
func FromSlice[T element](s *Scope, data []T, shape ...int64) *ts.Tensor {
	n := int64(1)
	for _, size := range shape {
		n *= size
	}
	if n != int64(len(data)) {
		s.Fail(&OpError{Op: "from_slice", Reason: fmt.Errorf("%d values for shape %v", len(data), shape)})
		return nil
	}
	t := s.Empty(shape, dtypeOf[T](), gotch.CPU)
	if t == nil || n == 0 {
		return t
	}
	p, err := t.DataPtr()
	if err != nil {
		s.Fail(newOpError("from_slice", nil, err))
		return nil
	}
	copy(unsafe.Slice((*T)(p), n), data)
	return t
}

// ToSlice returns t's elements, row-major. It converts them to T on t's device and copies
// them to the CPU in one transfer.
func ToSlice[T element](s *Scope, t *ts.Tensor) []T {
	c := s.Contiguous(s.To(s.Detach(t), dtypeOf[T](), gotch.CPU))
	if c == nil {
		return nil
	}
	n := Count(c)
	out := make([]T, n)
	if n == 0 {
		return out
	}
	p, err := c.DataPtr()
	if err != nil {
		s.Fail(newOpError("to_slice", []*ts.Tensor{t}, err))
		return nil
	}
	copy(out, unsafe.Slice((*T)(p), n))
	return out
}

// Address returns the address of t's first element, or 0 where t has none.
func Address(t *ts.Tensor) uintptr { return uintptr(C.koala_address(handle(t))) }

// Same reports whether two handles refer to one tensor, with one gradient.
func Same(a, b *ts.Tensor) bool { return C.koala_same(handle(a), handle(b)) != 0 }
