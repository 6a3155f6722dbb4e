package torch

// #include "native/koala_native.h"
import "C"

import "github.com/sugarme/gotch/ts"

// The parts of a Transformer: one operator each where libtorch has several.

// Norm is layer normalisation over the last dimension of x with gain and shift
// [D], or RMSNorm where shift is nil.
func (s *Scope) Norm(x, gain, shift *ts.Tensor, eps float64) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("norm", func() C.int { return C.koala_norm(handle(x), handle(gain), handle(shift), C.double(eps), &out) }, x, gain) {
		return nil
	}
	return s.take(out)
}

// Affine is the weight [out, in] and bias [out] of a linear layer; the bias may
// be nil.
type Affine struct{ Weight, Bias *ts.Tensor }

// A Branch leaves a residual stream x through a norm and comes back to it: with it an
// operator f is x + dropout(f(norm(x))), without, that is with no Gain, f(x).
type Branch struct {
	Gain, Shift *ts.Tensor // as Norm's
	Eps         float64
	Dropout     float64
}

// MLP is down GELU(up x), GELU in its tanh form, or with a gate SwiGLU, down
// (SiLU(gate x) * up x). x is [..., D].
func (s *Scope) MLP(x *ts.Tensor, b Branch, up Affine, gate *Affine, down Affine) *ts.Tensor {
	g := Affine{}
	if gate != nil {
		g = *gate
	}
	var out C.koala_tensor
	if !s.native("mlp", func() C.int {
		return C.koala_mlp(handle(x), handle(b.Gain), handle(b.Shift), C.double(b.Eps), handle(up.Weight), handle(up.Bias),
			handle(g.Weight), handle(g.Bias), handle(down.Weight), handle(down.Bias), C.double(b.Dropout), &out)
	}, x, up.Weight, down.Weight) {
		return nil
	}
	return s.take(out)
}

// Rotary turns x [B, T, heads, W] by the angles whose cosines and sines [T, W/2]
// are given: elements i and i + W/2 of a head are a plane.
func (s *Scope) Rotary(x, cos, sin *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("rotary", func() C.int { return C.koala_rotary(handle(x), handle(cos), handle(sin), &out) }, x, cos, sin) {
		return nil
	}
	return s.take(out)
}

// SelfAttention is causal self-attention over x [B, T, D] with the layers around
// it: in [3 D, D] makes queries, keys and values in a row, out [D, D] takes what
// the heads saw. dropout zeroes attention weights.
func (s *Scope) SelfAttention(x *ts.Tensor, b Branch, in, out Affine, heads int64, dropout float64) *ts.Tensor {
	var y C.koala_tensor
	if !s.native("self_attention", func() C.int {
		return C.koala_self_attention(handle(x), handle(b.Gain), handle(b.Shift), C.double(b.Eps), handle(in.Weight), handle(in.Bias),
			handle(out.Weight), handle(out.Bias), C.int64_t(heads), C.double(dropout), C.double(b.Dropout), &y)
	}, x, in.Weight, out.Weight) {
		return nil
	}
	return s.take(y)
}

// Attention is scaled dot-product attention: queries [B, H, T, W] see the keys
// and values [B, G, from+T, W] up to their own position; the first query stands
// at position from. G divides H: neighbouring heads share. dropout zeroes
// attention weights.
func (s *Scope) Attention(q, k, v *ts.Tensor, from int64, dropout float64) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("attention", func() C.int {
		return C.koala_attention(handle(q), handle(k), handle(v), C.int64_t(from), C.double(dropout), &out)
	}, q, k, v) {
		return nil
	}
	return s.take(out)
}
