package lm

import (
	"math"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// rotary turns queries and keys by angles that grow with their position, so that
// their products depend on distances alone (Su et al. 2021): dimension i of a
// head and i + width/2 form a plane, turned by position * frequency_i. If width is
// less than the head's, the rest of the head does not turn (Black et al. 2022).
type rotary struct {
	width       int64
	frequencies []float64 // [width/2]
	gain        float64   // factor on turned queries and keys

	cos, sin *ts.Tensor // [positions, width/2]; nil before the first use
}

func newRotary(a spec.Architecture) *rotary {
	r := &rotary{width: a.RotaryWidth()}
	r.frequencies, r.gain = rotaryFrequencies(a.Rotary, r.width)
	return r
}

// table returns cosines and sines [n, width/2] of the n positions from position from
// on. Few texts fill a model's context, so the tables grow with the positions in
// use.
func (r *rotary) table(s *torch.Scope, from, n int64, like *ts.Tensor) (cos, sin *ts.Tensor) {
	if have := torch.Shape(r.cos); r.cos == nil || have[0] < from+n {
		positions, half := growth(from+n), int64(len(r.frequencies))
		cos, sin := make([]float32, positions*half), make([]float32, positions*half)
		for position := range positions {
			for i, f := range r.frequencies {
				at, angle := position*half+int64(i), float64(position)*f
				cos[at], sin[at] = float32(r.gain*math.Cos(angle)), float32(r.gain*math.Sin(angle))
			}
		}
		newCos := s.UploadLike(torch.FromSlice(s, cos, positions, half), like)
		newSin := s.UploadLike(torch.FromSlice(s, sin, positions, half), like)
		if !s.OK() {
			return nil, nil
		}
		r.release(s)
		r.cos, r.sin = s.Keep(newCos), s.Keep(newSin)
	}
	return s.Narrow(r.cos, 0, from, n), s.Narrow(r.sin, 0, from, n)
}

// growth returns the size of a buffer for n elements: the next power of two.
func growth(n int64) int64 {
	size := int64(64)
	for size < n {
		size *= 2
	}
	return size
}

// release hands the tables over to a scope, since backward may still need their
// values.
func (r *rotary) release(s *torch.Scope) {
	if r.cos != nil {
		s.Own(r.cos)
		s.Own(r.sin)
	}
}

func (r *rotary) close() {
	if r != nil && r.cos != nil {
		_, _ = r.cos.Drop(), r.sin.Drop()
	}
}

// rotaryFrequencies returns the angle between neighbouring positions in each plane,
// and the factor on queries and keys.
func rotaryFrequencies(r spec.Rotations, width int64) (frequencies []float64, gain float64) {
	half := width / 2
	frequencies, gain = make([]float64, half), 1
	for i := range frequencies {
		frequencies[i] = math.Pow(r.Base, -float64(i)/float64(half))
	}
	original := float64(r.Original)
	switch r.Scaling {
	case spec.LinearScaling:
		for i := range frequencies {
			frequencies[i] /= r.Factor
		}
	case spec.Llama3Scaling:
		// Between Low and High waves in the original context, the slowing decreases
		// gradually.
		for i, f := range frequencies {
			waves := original * f / (2 * math.Pi)
			keep := min(1, max(0, (waves-r.Low)/(r.High-r.Low)))
			frequencies[i] = keep*f + (1-keep)*f/r.Factor
		}
	case spec.YarnScaling:
		// dimension returns the plane that makes the given number of rotations in
		// the original context.
		dimension := func(rotations float64) float64 {
			return float64(width) * math.Log(original/(rotations*2*math.Pi)) / (2 * math.Log(r.Base))
		}
		low, high := dimension(r.Fast), dimension(r.Slow)
		if !r.Exact {
			low, high = math.Floor(low), math.Ceil(high)
		}
		if low, high = max(low, 0), min(high, float64(width-1)); low == high {
			high += 0.001
		}
		for i, f := range frequencies {
			slow := min(1, max(0, (float64(i)-low)/(high-low)))
			frequencies[i] = (1-slow)*f + slow*f/r.Factor
		}
		if gain = r.Gain; gain == 0 {
			gain = 0.1*math.Log(r.Factor) + 1
		}
	}
	return frequencies, gain
}

// apply turns x [B, T, heads, W], whose first token is at position from.
func (r *rotary) apply(s *torch.Scope, x *ts.Tensor, from int64) *ts.Tensor {
	shape := torch.Shape(x)
	if !s.OK() {
		return nil
	}
	cos, sin := r.table(s, from, shape[1], x)
	if rest := shape[3] - r.width; rest > 0 {
		parts := s.Split(x, 3, r.width, rest)
		return s.Cat(3, s.Rotary(s.Contiguous(parts[0]), cos, sin), parts[1])
	}
	return s.Rotary(x, cos, sin)
}
