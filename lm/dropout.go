package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// drop zeroes elements of x [T, B, D] with probability p and scales the rest by
// 1/(1-p). Locked, a sequence keeps one mask [1, B, D] for all its time steps
// (Gal & Ghahramani 2016).
func drop(s *torch.Scope, x *ts.Tensor, p float64, locked bool) *ts.Tensor {
	if p == 0 || !locked || x == nil {
		return s.Dropout(x, p)
	}
	return s.Mul(x, mask(s, s.Narrow(x, 0, 0, 1), p))
}

// dropRows zeroes whole rows of an embedding [V, E]: a word that is dropped is
// dropped wherever it stands in the batch.
func dropRows(s *torch.Scope, w *ts.Tensor, p float64) *ts.Tensor {
	if p == 0 || w == nil {
		return w
	}
	return s.Mul(w, mask(s, s.Narrow(w, 1, 0, 1), p))
}

// mask has like's shape: 0 with probability p, else 1/(1-p).
func mask(s *torch.Scope, like *ts.Tensor, p float64) *ts.Tensor {
	var m *ts.Tensor
	s.NoGrad(func() {
		m = s.ZerosLike(like)
		s.BernoulliInPlace(m, 1-p)
		s.ScaleInPlace(m, 1/(1-p))
	})
	return m
}
