package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// mlp is a Transformer's second branch: down GELU(up x), or with a gate SwiGLU
// (Shazeer 2020), down (SiLU(gate x) * up x).
type mlp struct {
	up, down linear
	gate     *linear
}

func (m *mlp) apply(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	h := m.up.apply(s, x)
	if m.gate != nil {
		h = s.Mul(s.SiLU(m.gate.apply(s, x)), h)
	} else {
		h = s.GELU(h)
	}
	return m.down.apply(s, h)
}
