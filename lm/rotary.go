package lm

import (
	"math"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// rotaryBase is the longest wavelength of rotary positions over 2 pi.
const rotaryBase = 10000

// rotary turns queries and keys by angles that grow with their position, so that
// their products depend on distances alone (Su et al. 2021): dimension i of a
// head and i + width/2 form a plane, turned by position * base^(-2i/width).
type rotary struct {
	cos, sin *ts.Tensor // [context, width], both halves alike
}

func newRotary(p *params, context, width int64) *rotary {
	cos, sin := make([]float32, context*width), make([]float32, context*width)
	for position := range context {
		for i := range width {
			angle := float64(position) * math.Pow(rotaryBase, -2*float64(i%(width/2))/float64(width))
			cos[position*width+i], sin[position*width+i] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
	return &rotary{cos: p.table(cos, context, width), sin: p.table(sin, context, width)}
}

// apply turns x [B, heads, T, width], whose first row stands at position from.
func (r *rotary) apply(s *torch.Scope, x *ts.Tensor, from int64) *ts.Tensor {
	shape := torch.Shape(x)
	if !s.OK() {
		return nil
	}
	length, half := shape[2], shape[3]/2
	turned := s.Cat(3, s.Scale(s.Narrow(x, 3, half, half), -1), s.Narrow(x, 3, 0, half))
	return s.Add(s.Mul(x, s.Narrow(r.cos, 0, from, length)), s.Mul(turned, s.Narrow(r.sin, 0, from, length)))
}
