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
	cos, sin *ts.Tensor // [context, width/2]
}

func newRotary(p *params, context, width int64) *rotary {
	half := width / 2
	cos, sin := make([]float32, context*half), make([]float32, context*half)
	for position := range context {
		for i := range half {
			angle := float64(position) * math.Pow(rotaryBase, -float64(i)/float64(half))
			cos[position*half+i], sin[position*half+i] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
	return &rotary{cos: p.table(cos, context, half), sin: p.table(sin, context, half)}
}

// apply turns x [B, T, heads, width], whose first token stands at position from.
func (r *rotary) apply(s *torch.Scope, x *ts.Tensor, from int64) *ts.Tensor {
	shape := torch.Shape(x)
	if !s.OK() {
		return nil
	}
	return s.Rotary(x, s.Narrow(r.cos, 0, from, shape[1]), s.Narrow(r.sin, 0, from, shape[1]))
}
