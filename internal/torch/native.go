package torch

// #include "native/koala_native.h"
import "C"

import (
	"unsafe"

	"github.com/sugarme/gotch/ts"
)

// native runs a function of this project's own C++; call returns its error code.
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

func (s *Scope) take(h C.koala_tensor) *ts.Tensor {
	return s.Own(ts.FromCtensor(unsafe.Pointer(h)))
}

// Clone copies a; gradients flow through it. (gotch's Clone is clone_out.)
func (s *Scope) Clone(a *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("clone", func() C.int { return C.koala_clone(handle(a), &out) }, a) {
		return nil
	}
	return s.take(out)
}

// Split cuts a along dim into parts of the given sizes, which share its storage.
// Their gradients come back as one tensor; those of as many Narrows would each be
// of a's size.
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

// CopyInto overwrites dst with src, converting and moving as need be. (gotch's
// Copy_ ends the process on an error.)
func (s *Scope) CopyInto(dst, src *ts.Tensor) {
	s.native("copy_", func() C.int { return C.koala_copy(handle(dst), handle(src)) }, dst, src)
}

// Item returns the value of a tensor with one element: a wait for the device and
// one transfer.
func (s *Scope) Item(a *ts.Tensor) float64 {
	var v C.double
	s.native("item", func() C.int { return C.koala_item(handle(a), &v) }, a)
	return float64(v)
}

// Loss is a mean over tokens, with what KOALA's measurement model asks for.
type Loss struct {
	Mean       *ts.Tensor // differentiable scalar, owned by the scope
	Nats       float64    // its value: mean cross-entropy l in nats per token
	MeanSquare float64    // mean of l^2 over the same tokens
	Tokens     int64      // how many counted: those with a target >= 0
	PerToken   *ts.Tensor // l of each row, 0 where the target is negative; nil unless asked for
}

// CrossEntropyOptions are the details of [Scope.CrossEntropy].
type CrossEntropyOptions struct {
	ChunkBytes int64 // memory for logits at a time; 0 means DefaultChunkBytes
	PerToken   bool  // return each token's loss
}

// DefaultChunkBytes holds some 250 rows of a vocabulary of 33,000: enough for
// the matrix product to run at full speed, little beside the model.
const DefaultChunkBytes = 32 << 20

// CrossEntropy is the mean softmax cross-entropy of logits hidden weight^T + bias
// against targets, in chunks of rows that never hold all logits (see
// native/loss.cpp). hidden is [N, D], weight [V, D], bias [V] or nil, targets
// int64 [N]; rows with a negative target do not count.
func (s *Scope) CrossEntropy(hidden, weight, bias, targets *ts.Tensor, o CrossEntropyOptions) Loss {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = DefaultChunkBytes
	}
	var (
		values   [3]C.double
		loss     C.koala_tensor
		perToken C.koala_tensor
		wanted   *C.koala_tensor
	)
	if o.PerToken {
		wanted = &perToken
	}
	if !s.native("cross_entropy", func() C.int {
		return C.koala_cross_entropy(handle(hidden), handle(weight), handle(bias), handle(targets), C.int64_t(o.ChunkBytes), &values[0], &loss, wanted)
	}, hidden, weight, targets) {
		return Loss{}
	}
	out := Loss{Mean: s.take(loss), Nats: float64(values[0]), MeanSquare: float64(values[1]), Tokens: int64(values[2])}
	if o.PerToken {
		out.PerToken = s.take(perToken)
	}
	return out
}

// RNNWeights are one layer's, as PyTorch keeps them, the G gates one below the
// other: i, f, g, o of an LSTM, r, z, n of a GRU.
type RNNWeights struct {
	InputHidden  *ts.Tensor // [G H, I]
	HiddenHidden *ts.Tensor // [G H, H]
	InputBias    *ts.Tensor // [G H]
	HiddenBias   *ts.Tensor // [G H]
}

// LSTM runs one layer over x [T, B, I] from the state h, c [B, H] and returns
// the outputs [T, B, H] and the state after the last step.
func (s *Scope) LSTM(x, h, c *ts.Tensor, w RNNWeights) (y, hLast, cLast *ts.Tensor) {
	var out [3]C.koala_tensor
	if !s.native("lstm", func() C.int {
		return C.koala_lstm_layer(handle(x), handle(h), handle(c), handle(w.InputHidden), handle(w.HiddenHidden),
			handle(w.InputBias), handle(w.HiddenBias), &out[0], &out[1], &out[2])
	}, x, h, c, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias) {
		return nil, nil, nil
	}
	return s.take(out[0]), s.take(out[1]), s.take(out[2])
}

// GRU runs one layer over x [T, B, I] from the state h [B, H] and returns the
// outputs [T, B, H] and the state after the last step.
func (s *Scope) GRU(x, h *ts.Tensor, w RNNWeights) (y, hLast *ts.Tensor) {
	var out [2]C.koala_tensor
	if !s.native("gru", func() C.int {
		return C.koala_gru_layer(handle(x), handle(h), handle(w.InputHidden), handle(w.HiddenHidden),
			handle(w.InputBias), handle(w.HiddenBias), &out[0], &out[1])
	}, x, h, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias) {
		return nil, nil
	}
	return s.take(out[0]), s.take(out[1])
}
