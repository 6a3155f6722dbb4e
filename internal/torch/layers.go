package torch

// #include "../../lm/native/layers.h"
import "C"

import (
	"sync"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// The layers of language models and their loss. Each is one operator here and several in
// libtorch. lm/native has the kernels.

// Affine is a linear layer: the weight [out, in] and the bias [out], which may be nil.
type Affine struct{ Weight, Bias *ts.Tensor }

func (a Affine) inputs() C.koala_linear {
	return C.koala_linear{weight: handle(a.Weight), bias: handle(a.Bias)}
}

// A Branch is a residual branch with pre-normalisation: an operator f with a Branch
// computes x + dropout(f(norm(x))). Without a Gain it computes f(x).
type Branch struct {
	Gain, Shift *ts.Tensor // as Norm's
	Eps         float64
	Dropout     float64 // the probability of zeroing an element of f's result
}

func (b Branch) inputs() C.koala_branch {
	return C.koala_branch{gain: handle(b.Gain), shift: handle(b.Shift), eps: C.double(b.Eps), dropout: C.double(b.Dropout)}
}

// Norm is layer normalisation over the last dimension of x with gain and shift [D], or
// RMSNorm if shift is nil.
func (s *Scope) Norm(x, gain, shift *ts.Tensor, eps float64) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("norm", func() C.int {
		return C.koala_norm(handle(x), Branch{Gain: gain, Shift: shift, Eps: eps}.inputs(), &out)
	}, x, gain) {
		return nil
	}
	return s.take(out)
}

// MLP is down GELU(up x), with GELU in its tanh form, or with a gate SwiGLU,
// down (SiLU(gate x) * up x). x is [..., D].
func (s *Scope) MLP(x *ts.Tensor, b Branch, up Affine, gate *Affine, down Affine) *ts.Tensor {
	in := C.koala_mlp_inputs{x: handle(x), branch: b.inputs(), up: up.inputs(), down: down.inputs()}
	if gate != nil {
		in.gate = gate.inputs()
	}
	var out C.koala_tensor
	if !s.native("mlp", func() C.int { return C.koala_mlp(&in, &out) }, x, up.Weight, down.Weight) {
		return nil
	}
	return s.take(out)
}

// Rotary rotates x [B, T, heads, W] by angles, given as cosines and sines [T, W/2].
// Elements i and i + W/2 of a head form a plane.
func (s *Scope) Rotary(x, cos, sin *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("rotary", func() C.int { return C.koala_rotary(handle(x), handle(cos), handle(sin), &out) }, x, cos, sin) {
		return nil
	}
	return s.take(out)
}

// SelfAttention is causal self-attention over x [B, T, D] with the layers around it: in [3
// D, D] computes concatenated queries, keys and values, and out [D, D] projects the heads'
// results.
func (s *Scope) SelfAttention(x *ts.Tensor, b Branch, in, out Affine, heads int64, o AttentionOptions) *ts.Tensor {
	inputs := C.koala_self_attention_inputs{x: handle(x), first: handle(o.First), branch: b.inputs(), in: in.inputs(), out: out.inputs(),
		heads: C.int64_t(heads), dropout: C.double(o.Dropout)}
	var y C.koala_tensor
	if !s.native("self_attention", func() C.int { return C.koala_self_attention(&inputs, &y) }, x, in.Weight, out.Weight) {
		return nil
	}
	return s.take(y)
}

// AttentionOptions limit what a query sees. The zero value lets it see its own token and
// all before it.
type AttentionOptions struct {
	First   *ts.Tensor // first token that each query sees, int64 [B, T]; nil: 0
	Window  int64      // largest number of tokens that a query sees, its own included; 0: no limit. Attention only
	Dropout float64    // probability with which an attention weight is zeroed
}

// Attention is scaled dot-product attention: queries [B, H, T, W] attend to the keys and
// values [B, G, from+T, W] up to their own position; the first query's position is from. G
// divides H: groups of neighbouring heads share keys and values.
func (s *Scope) Attention(q, k, v *ts.Tensor, from int64, o AttentionOptions) *ts.Tensor {
	in := C.koala_attention_inputs{q: handle(q), k: handle(k), v: handle(v), first: handle(o.First), from: C.int64_t(from),
		window: C.int64_t(o.Window), dropout: C.double(o.Dropout)}
	var out C.koala_tensor
	if !s.native("attention", func() C.int { return C.koala_attention(&in, &out) }, q, k, v) {
		return nil
	}
	return s.take(out)
}

// RNNWeights are a recurrent layer's weights in PyTorch's layout. The G gates are stacked
// along the rows: i, f, g, o for an LSTM, r, z, n for a GRU.
type RNNWeights struct {
	InputHidden  *ts.Tensor // [G H, I]
	HiddenHidden *ts.Tensor // [G H, H]
	InputBias    *ts.Tensor // [G H]
	HiddenBias   *ts.Tensor // [G H]
}

func (w RNNWeights) inputs(x, h, c *ts.Tensor) C.koala_recurrent_inputs {
	return C.koala_recurrent_inputs{x: handle(x), h: handle(h), c: handle(c),
		input_weight: handle(w.InputHidden), hidden_weight: handle(w.HiddenHidden),
		input_bias: handle(w.InputBias), hidden_bias: handle(w.HiddenBias)}
}

// LSTM runs one layer over x [T, B, I] from the state h, c [B, H] and returns the outputs
// [T, B, H] and the state after the last step.
func (s *Scope) LSTM(x, h, c *ts.Tensor, w RNNWeights) (y, hLast, cLast *ts.Tensor) {
	in, out := w.inputs(x, h, c), C.koala_recurrent_outputs{}
	if !s.native("lstm", func() C.int { return C.koala_lstm(&in, &out) },
		x, h, c, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias) {
		return nil, nil, nil
	}
	return s.take(out.y), s.take(out.h), s.take(out.c)
}

// GRU runs one layer over x [T, B, I] from the state h [B, H] and returns the outputs
// [T, B, H] and the state after the last step.
func (s *Scope) GRU(x, h *ts.Tensor, w RNNWeights) (y, hLast *ts.Tensor) {
	in, out := w.inputs(x, h, nil), C.koala_recurrent_outputs{}
	if !s.native("gru", func() C.int { return C.koala_gru(&in, &out) },
		x, h, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias) {
		return nil, nil
	}
	return s.take(out.y), s.take(out.h)
}

// Loss is a mean over tokens, with the second moment that KOALA's measurement model needs.
type Loss struct {
	LossNumbers             // zero if the loss is Unread
	Mean        *ts.Tensor  // differentiable scalar, owned by the scope
	PerToken    *ts.Tensor  // l of each row, 0 where the target is negative; nil unless asked for
	Unread      *UnreadLoss // nil unless asked for
	ChunkBytes  int64       // memory for logits at a time
}

// LossNumbers are a loss's numbers on the host.
type LossNumbers struct {
	Nats       float64 // mean cross-entropy l in nats per token
	MeanSquare float64 // mean of l^2 over the same tokens
	Tokens     int64   // number of tokens with a target >= 0
}

// An UnreadLoss has a loss's numbers on the device, so that the host need not wait for them.
type UnreadLoss struct {
	Values *ts.Tensor // one-dimensional
	// Numbers are the loss's, given the elements of Values.
	Numbers func(values []float64) LossNumbers
}

// Read returns the loss's numbers; it waits for the device.
func (u *UnreadLoss) Read(s *Scope) LossNumbers {
	values := ToSlice[float64](s, u.Values)
	if !s.OK() {
		return LossNumbers{}
	}
	return u.Numbers(values)
}

// CrossEntropyOptions are options of [Scope.CrossEntropy].
type CrossEntropyOptions struct {
	ChunkBytes int64   // memory for logits at a time; 0 is DefaultChunkBytes, and on a device with free memory more
	PerToken   bool    // return each token's loss
	Unread     bool    // leave the loss's numbers on the device
	Targets    []int64 // the targets, if the caller has them on the host
}

// DefaultChunkBytes holds about 250 rows of a vocabulary of 33,000: enough for the matrix
// product to run at full speed, and little compared with the model.
const DefaultChunkBytes = 32 << 20

// A chunk on a device is at most this share of its free memory, because its exponentials take
// as much and the backward pass is to come, and at most this size, from which products are no
// faster.
const (
	chunkShare   = 8
	largestChunk = 512 << 20
)

// A lossShape is a device and the sizes that decide how much memory its logits can take.
type lossShape struct {
	device      gotch.Device
	rows, vocab int64
}

// chunkSizes holds the size of chunks by lossShape: the device is asked once, since asking
// takes time, and the loss keeps its rounding from step to step.
var chunkSizes sync.Map

// chunkBytes returns the size of chunks of [rows, vocab] logits of hidden: twice, four times and
// so on the usual size, so that little changes of the free memory do not change it.
func (s *Scope) chunkBytes(hidden, weight *ts.Tensor) int64 {
	device, err := hidden.Device()
	if err != nil || !device.IsCuda() {
		s.Fail(err)
		return DefaultChunkBytes
	}
	shape := lossShape{device, Shape(hidden)[0], Shape(weight)[0]}
	if known, ok := chunkSizes.Load(shape); ok {
		return known.(int64)
	}
	free, err := FreeMemory(device)
	s.Fail(err)
	chunk, logits := int64(DefaultChunkBytes), 4*shape.rows*shape.vocab
	for chunk < logits && 2*chunk <= min(free/chunkShare, largestChunk) {
		chunk *= 2
	}
	chunkSizes.Store(shape, chunk)
	return chunk
}

// CrossEntropy returns the mean softmax cross-entropy of the logits hidden weight^T + bias
// against targets. It works in chunks of rows, so that all logits are never in memory at
// once. hidden is [N, D], weight [V, D], bias [V] or nil, targets int64 [N]; rows with a
// negative target do not count.
func (s *Scope) CrossEntropy(hidden, weight, bias, targets *ts.Tensor, o CrossEntropyOptions) Loss {
	if o.ChunkBytes == 0 && s.ready("cross_entropy", []*ts.Tensor{hidden, weight, targets}) {
		o.ChunkBytes = s.chunkBytes(hidden, weight)
	}
	in := C.koala_cross_entropy_inputs{hidden: handle(hidden), weight: handle(weight), bias: handle(bias),
		targets: handle(targets), chunk_bytes: C.int64_t(o.ChunkBytes)}
	if o.PerToken {
		in.per_token = 1
	}
	var out C.koala_cross_entropy_outputs
	if !s.native("cross_entropy", func() C.int { return C.koala_cross_entropy(&in, &out) }, hidden, weight, targets) {
		return Loss{}
	}
	loss := Loss{Mean: s.take(out.loss), ChunkBytes: o.ChunkBytes}
	if o.PerToken {
		loss.PerToken = s.take(out.per_token)
	}
	unread := &UnreadLoss{Values: s.take(out.numbers), Numbers: func(v []float64) LossNumbers {
		return LossNumbers{Nats: v[0], MeanSquare: v[1], Tokens: int64(v[2])}
	}}
	if o.Unread {
		loss.Unread = unread
	} else {
		loss.LossNumbers = unread.Read(s)
	}
	return loss
}
