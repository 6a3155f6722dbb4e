package torch

// #include "native/koala_native.h"
import "C"

import (
	"unsafe"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// The methods below are libtorch's operators of the same names. They return a
// new tensor that the scope owns, or nil after an error.

// Arithmetic, elementwise with broadcasting.

func (s *Scope) Add(a, b *ts.Tensor) *ts.Tensor {
	return s.Apply("add", func() (*ts.Tensor, error) { return a.Add(b, false) }, a, b)
}

func (s *Scope) Sub(a, b *ts.Tensor) *ts.Tensor {
	return s.Apply("sub", func() (*ts.Tensor, error) { return a.Sub(b, false) }, a, b)
}

func (s *Scope) Mul(a, b *ts.Tensor) *ts.Tensor {
	return s.Apply("mul", func() (*ts.Tensor, error) { return a.Mul(b, false) }, a, b)
}

func (s *Scope) Div(a, b *ts.Tensor) *ts.Tensor {
	return s.Apply("div", func() (*ts.Tensor, error) { return a.Div(b, false) }, a, b)
}

// Scale returns a * v.
func (s *Scope) Scale(a *ts.Tensor, v float64) *ts.Tensor {
	return s.Apply("mul", func() (*ts.Tensor, error) { return a.MulScalar(s.Float(v), false) }, a)
}

// Shift returns a + v.
func (s *Scope) Shift(a *ts.Tensor, v float64) *ts.Tensor {
	return s.Apply("add", func() (*ts.Tensor, error) { return a.AddScalar(s.Float(v), false) }, a)
}

func (s *Scope) Square(a *ts.Tensor) *ts.Tensor {
	return s.Apply("square", func() (*ts.Tensor, error) { return a.Square(false) }, a)
}

func (s *Scope) Sqrt(a *ts.Tensor) *ts.Tensor {
	return s.Apply("sqrt", func() (*ts.Tensor, error) { return a.Sqrt(false) }, a)
}

// Nonlinearities.

func (s *Scope) Tanh(a *ts.Tensor) *ts.Tensor {
	return s.Apply("tanh", func() (*ts.Tensor, error) { return a.Tanh(false) }, a)
}

func (s *Scope) Sigmoid(a *ts.Tensor) *ts.Tensor {
	return s.Apply("sigmoid", func() (*ts.Tensor, error) { return a.Sigmoid(false) }, a)
}

func (s *Scope) SiLU(a *ts.Tensor) *ts.Tensor {
	return s.Apply("silu", func() (*ts.Tensor, error) { return a.Silu(false) }, a)
}

// LogSoftmax is log-softmax over the last dimension.
func (s *Scope) LogSoftmax(a *ts.Tensor) *ts.Tensor {
	return s.Apply("log_softmax", func() (*ts.Tensor, error) { return a.LogSoftmax(-1, a.DType(), false) }, a)
}

// Softmax is softmax over the last dimension.
func (s *Scope) Softmax(a *ts.Tensor) *ts.Tensor {
	return s.Apply("softmax", func() (*ts.Tensor, error) { return a.Softmax(-1, a.DType(), false) }, a)
}

// Products.

// MatMul is libtorch's matmul: the product of matrices, or of batches of matrices.
func (s *Scope) MatMul(a, b *ts.Tensor) *ts.Tensor {
	return s.Apply("matmul", func() (*ts.Tensor, error) { return a.Matmul(b, false) }, a, b)
}

// Linear returns x w^T + b over the last dimension; b may be nil. w is [out, in].
func (s *Scope) Linear(x, w, b *ts.Tensor) *ts.Tensor {
	if b == nil {
		return s.Apply("linear", func() (*ts.Tensor, error) { return ts.Linear(x, w, ts.None) }, x, w)
	}
	return s.Apply("linear", func() (*ts.Tensor, error) { return ts.Linear(x, w, b) }, x, w, b)
}

// Embedding returns the rows of w [entries, features] at the int64 indices ids,
// of any shape, with a dimension of features appended.
func (s *Scope) Embedding(w, ids *ts.Tensor) *ts.Tensor {
	return s.Apply("embedding", func() (*ts.Tensor, error) { return ts.Embedding(w, ids, -1, false, false) }, w, ids)
}

// TiedEmbedding is Embedding with weights w that the output layer shares. Its gradient is
// sparse, only the rows that were looked up, and libtorch adds it to a copy of the output
// layer's dense gradient. Embedding's gradient would be a second matrix of w's size,
// nearly all zeros, to be written and added. If w has no other, dense gradient, its
// gradient stays sparse.
func (s *Scope) TiedEmbedding(w, ids *ts.Tensor) *ts.Tensor {
	return s.Apply("embedding", func() (*ts.Tensor, error) { return ts.Embedding(w, ids, -1, false, true) }, w, ids)
}

// Dropout zeroes each element with probability p and scales the rest by
// 1/(1-p). With p 0 it returns x itself. Evaluation does not call it.
func (s *Scope) Dropout(x *ts.Tensor, p float64) *ts.Tensor {
	if p == 0 {
		return x
	}
	return s.Apply("dropout", func() (*ts.Tensor, error) { return ts.Dropout(x, p, true) }, x)
}

// Reductions.

// Mean is the mean over all elements.
func (s *Scope) Mean(a *ts.Tensor) *ts.Tensor {
	return s.Apply("mean", func() (*ts.Tensor, error) { return a.Mean(a.DType(), false) }, a)
}

// Sum is the sum over all elements.
func (s *Scope) Sum(a *ts.Tensor) *ts.Tensor {
	return s.Apply("sum", func() (*ts.Tensor, error) { return a.Sum(a.DType(), false) }, a)
}

// SumDims is the sum over the given dimensions, which the result does not have.
func (s *Scope) SumDims(a *ts.Tensor, dims ...int64) *ts.Tensor {
	return s.Apply("sum", func() (*ts.Tensor, error) { return a.SumDimIntlist(dims, false, a.DType(), false) }, a)
}

// Item returns the value of a tensor with one element. It waits for the device and costs
// one transfer.
func (s *Scope) Item(a *ts.Tensor) float64 {
	var v C.double
	s.native("item", func() C.int { return C.koala_item(handle(a), &v) }, a)
	return float64(v)
}

// Shapes.

func (s *Scope) Reshape(a *ts.Tensor, shape ...int64) *ts.Tensor {
	return s.Apply("reshape", func() (*ts.Tensor, error) { return a.Reshape(shape, false) }, a)
}

// Flatten joins all dimensions from dim on into one.
func (s *Scope) Flatten(a *ts.Tensor, dim int64) *ts.Tensor {
	return s.Apply("flatten", func() (*ts.Tensor, error) { return a.Flatten(dim, -1, false) }, a)
}

// Unflatten splits dimension dim into several.
func (s *Scope) Unflatten(a *ts.Tensor, dim int64, sizes ...int64) *ts.Tensor {
	return s.Apply("unflatten", func() (*ts.Tensor, error) { return a.Unflatten(dim, sizes, false) }, a)
}

func (s *Scope) Transpose(a *ts.Tensor, dim0, dim1 int64) *ts.Tensor {
	return s.Apply("transpose", func() (*ts.Tensor, error) { return a.Transpose(dim0, dim1, false) }, a)
}

// Narrow is the slice [start, start+length) of dimension dim.
func (s *Scope) Narrow(a *ts.Tensor, dim, start, length int64) *ts.Tensor {
	return s.Apply("narrow", func() (*ts.Tensor, error) { return a.Narrow(dim, start, length, false) }, a)
}

// Select is the slice at index of dimension dim, which the result does not have.
func (s *Scope) Select(a *ts.Tensor, dim, index int64) *ts.Tensor {
	return s.Apply("select", func() (*ts.Tensor, error) { return a.Select(dim, index, false) }, a)
}

// IndexSelect concatenates the slices of dimension dim at the int64 indices.
func (s *Scope) IndexSelect(a *ts.Tensor, dim int64, indices *ts.Tensor) *ts.Tensor {
	return s.Apply("index_select", func() (*ts.Tensor, error) { return a.IndexSelect(dim, indices, false) }, a, indices)
}

func (s *Scope) Unsqueeze(a *ts.Tensor, dim int64) *ts.Tensor {
	return s.Apply("unsqueeze", func() (*ts.Tensor, error) { return a.Unsqueeze(dim, false) }, a)
}

// Expand repeats dimensions of length 1 without copying.
func (s *Scope) Expand(a *ts.Tensor, shape ...int64) *ts.Tensor {
	return s.Apply("expand", func() (*ts.Tensor, error) { return a.Expand(shape, false, false) }, a)
}

func (s *Scope) Contiguous(a *ts.Tensor) *ts.Tensor {
	return s.Apply("contiguous", func() (*ts.Tensor, error) { return a.Contiguous(false) }, a)
}

// Cat joins tensors along dim.
func (s *Scope) Cat(dim int64, tensors ...*ts.Tensor) *ts.Tensor {
	return s.Apply("cat", func() (*ts.Tensor, error) { return ts.Cat(tensors, dim) }, tensors...)
}

// Stack joins tensors of one shape along a new dimension dim.
func (s *Scope) Stack(dim int64, tensors ...*ts.Tensor) *ts.Tensor {
	return s.Apply("stack", func() (*ts.Tensor, error) { return ts.Stack(tensors, dim) }, tensors...)
}

// Split cuts a along dim into parts of the given sizes, which share its storage. Backward
// makes one gradient for all of them; one Narrow per part would allocate a full-size
// gradient for each.
func (s *Scope) Split(a *ts.Tensor, dim int64, sizes ...int64) []*ts.Tensor {
	parts, out := make([]*ts.Tensor, len(sizes)), make([]C.koala_tensor, len(sizes))
	if len(sizes) == 0 || !s.native("split", func() C.int {
		return C.koala_split(handle(a), C.int64_t(dim), (*C.int64_t)(unsafe.Pointer(&sizes[0])), C.int(len(sizes)), &out[0])
	}, a) {
		return parts
	}
	for i := range parts {
		parts[i] = s.take(out[i])
	}
	return parts
}

// Creating, copying and converting.

// Clone copies a; gradients flow through it. (gotch's Clone is clone_out.)
func (s *Scope) Clone(a *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("clone", func() C.int { return C.koala_clone(handle(a), &out) }, a) {
		return nil
	}
	return s.take(out)
}

// Empty returns a tensor with uninitialized elements.
func (s *Scope) Empty(shape []int64, dtype gotch.DType, device gotch.Device) *ts.Tensor {
	return s.Apply("empty", func() (*ts.Tensor, error) { return ts.Empty(shape, dtype, device) })
}

func (s *Scope) Zeros(shape []int64, dtype gotch.DType, device gotch.Device) *ts.Tensor {
	return s.Apply("zeros", func() (*ts.Tensor, error) { return ts.Zeros(shape, dtype, device) })
}

func (s *Scope) ZerosLike(a *ts.Tensor) *ts.Tensor {
	return s.Apply("zeros_like", func() (*ts.Tensor, error) { return a.ZerosLike(false) }, a)
}

func (s *Scope) Ones(shape []int64, dtype gotch.DType, device gotch.Device) *ts.Tensor {
	return s.Apply("ones", func() (*ts.Tensor, error) { return ts.Ones(shape, dtype, device) })
}

// Detach returns a tensor that shares a's storage and has no gradient history.
func (s *Scope) Detach(a *ts.Tensor) *ts.Tensor {
	return s.Apply("detach", func() (*ts.Tensor, error) { return a.Detach(false) }, a)
}

// To converts a to dtype and moves it to device. If neither is needed the result shares
// a's storage.
func (s *Scope) To(a *ts.Tensor, dtype gotch.DType, device gotch.Device) *ts.Tensor {
	moved := s.Apply("to", func() (*ts.Tensor, error) { return a.To(device, false) }, a)
	return s.Apply("to", func() (*ts.Tensor, error) { return moved.Totype(dtype, false) }, moved)
}

// Upload is To for a tensor on the host, without waiting until the device has it.
func (s *Scope) Upload(a *ts.Tensor, device gotch.Device) *ts.Tensor {
	if !device.IsCuda() {
		return a
	}
	var out C.koala_tensor
	if !s.native("to", func() C.int { return C.koala_upload(handle(a), C.int(device.Value), &out) }, a) {
		return nil
	}
	return s.take(out)
}

// UploadLike is Upload to like's device.
func (s *Scope) UploadLike(a, like *ts.Tensor) *ts.Tensor {
	if !s.ready("to", []*ts.Tensor{a, like}) {
		return nil
	}
	device, err := like.Device()
	s.Fail(err)
	return s.Upload(a, device)
}

// In place.

// CopyInto overwrites dst with src, converted to dst's type and moved to its device.
// (gotch's Copy_ ends the process on an error.)
func (s *Scope) CopyInto(dst, src *ts.Tensor) {
	s.native("copy_", func() C.int { return C.koala_copy(handle(dst), handle(src)) }, dst, src)
}

func (s *Scope) Zero(a *ts.Tensor) {
	s.ApplyInPlace("zero_", func() error { return a.Zero_() }, a)
}

func (s *Scope) Fill(a *ts.Tensor, v float64) {
	s.ApplyInPlace("fill_", func() error { return a.Fill_(s.Float(v)) }, a)
}

func (s *Scope) ScaleInPlace(a *ts.Tensor, v float64) {
	s.ApplyInPlace("mul_", func() error { return a.MulScalar_(s.Float(v)) }, a)
}

// AddInPlace does a += b.
func (s *Scope) AddInPlace(a, b *ts.Tensor) {
	s.ApplyInPlace("add_", func() error { return a.Add_(b) }, a, b)
}

// UniformInPlace fills a from the uniform distribution on [from, to).
func (s *Scope) UniformInPlace(a *ts.Tensor, from, to float64) {
	s.ApplyInPlace("uniform_", func() error { return a.Uniform_(from, to) }, a)
}

// NormalInPlace fills a from the normal distribution.
func (s *Scope) NormalInPlace(a *ts.Tensor, mean, sd float64) {
	s.ApplyInPlace("normal_", func() error { return a.Normal_(mean, sd) }, a)
}

// BernoulliInPlace fills a with ones with probability p, else zeros.
func (s *Scope) BernoulliInPlace(a *ts.Tensor, p float64) {
	s.ApplyInPlace("bernoulli_", func() error { return a.BernoulliFloat_(p) }, a)
}
