package torch

import (
	"fmt"
	"unsafe"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// elementSizes are the bytes of one element, for the types of safetensors files.
var elementSizes = map[gotch.DType]int64{
	gotch.Bool: 1, gotch.Uint8: 1, gotch.Int8: 1,
	gotch.Int16: 2, gotch.Half: 2, gotch.BFloat16: 2,
	gotch.Int: 4, gotch.Float: 4,
	gotch.Int64: 8, gotch.Double: 8, gotch.ComplexFloat: 8,
}

// ByteCount returns the length in bytes of t's data, row-major without gaps.
func ByteCount(t *ts.Tensor) int64 { return Count(t) * elementSizes[t.DType()] }

// ReadBytes fills dst, of ByteCount(t) bytes, with t's data: row-major, in the machine's
// byte order, from any device.
func (s *Scope) ReadBytes(dst []byte, t *ts.Tensor) {
	c := s.Contiguous(s.Apply("to", func() (*ts.Tensor, error) { return t.To(gotch.CPU, false) }, t))
	if c == nil || !s.fits("read_bytes", int64(len(dst)), c) || len(dst) == 0 {
		return
	}
	p, err := c.DataPtr()
	if err != nil {
		s.Fail(newOpError("read_bytes", []*ts.Tensor{t}, err))
		return
	}
	copy(dst, unsafe.Slice((*byte)(p), len(dst)))
}

// FromBytes returns a tensor on the CPU with a copy of data. It is the inverse of
// ReadBytes.
func (s *Scope) FromBytes(data []byte, dtype gotch.DType, shape ...int64) *ts.Tensor {
	t := s.Empty(shape, dtype, gotch.CPU)
	if t == nil || !s.fits("from_bytes", int64(len(data)), t) || len(data) == 0 {
		return t
	}
	p, err := t.DataPtr()
	if err != nil {
		s.Fail(newOpError("from_bytes", nil, err))
		return nil
	}
	copy(unsafe.Slice((*byte)(p), len(data)), data)
	return t
}

func (s *Scope) fits(op string, n int64, t *ts.Tensor) bool {
	if want := ByteCount(t); n != want {
		s.Fail(newOpError(op, []*ts.Tensor{t}, fmt.Errorf("%d bytes, where the tensor has %d", n, want)))
	}
	return s.OK()
}
