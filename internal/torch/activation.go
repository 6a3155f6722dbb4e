package torch

import (
	"github.com/sugarme/gotch/ts"
)

// ReLU is max(0, a).
func (s *Scope) ReLU(a *ts.Tensor) *ts.Tensor {
	return s.Apply("relu", func() (*ts.Tensor, error) { return a.Relu(false) }, a)
}

// GELU is a times the normal distribution function of a (Hendrycks & Gimpel 2016).
// If tanh is true, it is the paper's approximation by tanh.
func (s *Scope) GELU(a *ts.Tensor, tanh bool) *ts.Tensor {
	approximate := "none"
	if tanh {
		approximate = "tanh"
	}
	return s.Apply("gelu", func() (*ts.Tensor, error) { return a.Gelu(approximate, false) }, a)
}
