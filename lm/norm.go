package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// normEps is added to a variance or mean square before its root.
const normEps = 1e-5

// norm is layer normalisation (Ba et al. 2016), or without a bias its RMS form
// (Zhang & Sennrich 2019), over the last dimension.
type norm struct {
	gain *ts.Tensor // [D]
	bias *ts.Tensor // [D]; nil makes it RMSNorm
}

func newNorm(p *params, name string, layer bool, width int64) norm {
	n := norm{gain: p.add(name+".weight", constant(1), width)}
	if layer {
		n.bias = p.add(name+".bias", constant(0), width)
	}
	return n
}

// branch is a branch of the residual stream that begins with the norm.
func (n norm) branch(dropout float64) torch.Branch {
	return torch.Branch{Gain: n.gain, Shift: n.bias, Eps: normEps, Dropout: dropout}
}

func (n norm) apply(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	return s.Norm(x, n.gain, n.bias, normEps)
}
