package spec

// A Tensor is an array of numbers that formulas are written with. Operations
// return new tensors, which live until the parameter's part of the step ends
// ([Step.Each]); the ones whose name ends in InPlace, and Set, change the tensor
// itself. After a failed operation every further one does nothing, and the step
// returns the first error.
//
// Shapes follow the usual rules: elementwise operations broadcast, MatMul and T
// act on the last two dimensions and treat the others as a batch.
type Tensor interface {
	Shape() []int64
	Type() Type

	// Elementwise.
	Add(b Tensor) Tensor
	Sub(b Tensor) Tensor
	Mul(b Tensor) Tensor
	Div(b Tensor) Tensor
	Max(b Tensor) Tensor
	Scale(v float64) Tensor                    // v a
	Shift(v float64) Tensor                    // a + v
	AtLeast(v float64) Tensor                  // max(a, v)
	Mix(u float64, b Tensor, v float64) Tensor // u a + v b
	Square() Tensor
	Sqrt() Tensor
	Sign() Tensor // -1, 0 or 1
	Abs() Tensor

	// Reductions.
	Dot(b Tensor) Tensor       // sum of products, a float64 scalar
	Sum(dims ...int64) Tensor  // over dims, which stay with length 1
	Mean(dims ...int64) Tensor // over dims, which stay with length 1
	Norm(dims ...int64) Tensor // root of the sum of squares over dims, which stay with length 1

	// Matrices.
	MatMul(b Tensor) Tensor
	T() Tensor
	QR() Tensor           // the orthonormal factor Q
	Eigenvectors() Tensor // of a symmetric matrix, in the columns, by falling eigenvalues
	Reshape(shape ...int64) Tensor
	Narrow(dim, from, length int64) Tensor // shares storage
	Stack(others ...Tensor) Tensor         // this one and the others along a new first dimension
	Join(dim int64, others ...Tensor) Tensor
	At(i int64) Tensor                   // slice i of the first dimension, which goes; shares storage
	Descending() Tensor                  // the order that sorts a vector from its largest number on
	Pick(dim int64, order Tensor) Tensor // slices of dim in that order

	// Types.
	To(t Type) Tensor
	Like(b Tensor) Tensor // converted to b's type

	// In place.
	Set(b Tensor)
	AddInPlace(b Tensor)
	ScaleInPlace(v float64)
	FillInPlace(v float64)
}

// A Type is the type of a tensor's elements.
type Type string

const (
	Float16  Type = "float16"
	BFloat16 Type = "bfloat16"
	Float32  Type = "float32"
	Float64  Type = "float64"
)

// Epsilon is the distance from 1 to the next larger number of the type.
func (t Type) Epsilon() float64 {
	return map[Type]float64{Float16: 0x1p-10, BFloat16: 0x1p-7, Float32: 0x1p-23, Float64: 0x1p-52}[t]
}
