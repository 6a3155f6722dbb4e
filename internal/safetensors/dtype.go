package safetensors

import (
	"fmt"
	"math/bits"
)

// A DType is the type of a tensor's elements, as the format spells it.
type DType string

// The types of PyTorch whose elements are whole bytes.
const (
	Bool    DType = "BOOL"
	U8      DType = "U8"
	I8      DType = "I8"
	F8E5M2  DType = "F8_E5M2"
	F8E4M3  DType = "F8_E4M3"
	I16     DType = "I16"
	U16     DType = "U16"
	F16     DType = "F16"
	BF16    DType = "BF16"
	I32     DType = "I32"
	U32     DType = "U32"
	F32     DType = "F32"
	Complex DType = "C64"
	F64     DType = "F64"
	I64     DType = "I64"
	U64     DType = "U64"
)

// ascending lists the types in the order of the reference implementation, which
// writes tensors from the last type to the first. With wide elements first,
// every tensor is aligned without padding, which the format does not have.
var ascending = []struct {
	dtype DType
	size  int64
}{
	{Bool, 1}, {U8, 1}, {I8, 1}, {F8E5M2, 1}, {F8E4M3, 1},
	{I16, 2}, {U16, 2}, {F16, 2}, {BF16, 2},
	{I32, 4}, {U32, 4}, {F32, 4},
	{Complex, 8}, {F64, 8}, {I64, 8}, {U64, 8},
}

// Size returns the number of bytes of one element, 0 for an unknown type.
func (d DType) Size() int64 {
	for _, known := range ascending {
		if known.dtype == d {
			return known.size
		}
	}
	return 0
}

// rank orders types as the reference implementation does.
func (d DType) rank() int {
	for i, known := range ascending {
		if known.dtype == d {
			return i
		}
	}
	return -1
}

// Info describes a tensor. A scalar's shape has no dimensions; a tensor with a
// dimension of 0 is empty.
type Info struct {
	Name  string
	DType DType
	Shape []int64
}

func (i Info) String() string { return fmt.Sprintf("%q (%s %d)", i.Name, i.DType, i.Shape) }

// Bytes returns the length of the tensor's data in bytes.
func (i Info) Bytes() (int64, error) {
	size := i.DType.Size()
	if size == 0 {
		return 0, formatError("tensor %q: type %q is not known", i.Name, string(i.DType))
	}
	n := uint64(size)
	for _, dimension := range i.Shape {
		if dimension < 0 {
			return 0, formatError("tensor %v: a dimension is negative", i)
		}
		high, low := bits.Mul64(n, uint64(dimension))
		if high != 0 || low > 1<<63-1 {
			return 0, formatError("tensor %v: its size overflows", i)
		}
		n = low
	}
	return int64(n), nil
}
