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

// apply returns the residual stream x [B, T, D] with the branch on it.
func (m *mlp) apply(s *torch.Scope, x *ts.Tensor, n norm, dropout float64) *ts.Tensor {
	var gate *torch.Affine
	if m.gate != nil {
		g := m.gate.affine(s)
		gate = &g
	}
	return s.MLP(x, n.branch(dropout), m.up.affine(s), gate, m.down.affine(s))
}
