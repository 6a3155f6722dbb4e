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

// LeakyReLU is max(a, a/100).
func (s *Scope) LeakyReLU(a *ts.Tensor) *ts.Tensor {
	return s.Apply("leaky_relu", func() (*ts.Tensor, error) { return a.LeakyRelu(false) }, a)
}

// Mish is a tanh(log(1 + exp(a))) (Misra 2019).
func (s *Scope) Mish(a *ts.Tensor) *ts.Tensor {
	return s.Apply("mish", func() (*ts.Tensor, error) { return a.Mish(false) }, a)
}

// Erf is the error function.
func (s *Scope) Erf(a *ts.Tensor) *ts.Tensor {
	return s.Apply("erf", func() (*ts.Tensor, error) { return a.Erf(false) }, a)
}

// Clamp is min(max(a, least), most).
func (s *Scope) Clamp(a *ts.Tensor, least, most float64) *ts.Tensor {
	return s.Apply("clamp", func() (*ts.Tensor, error) { return a.Clamp(s.Float(least), s.Float(most), false) }, a)
}

// Softplus is log(1 + exp(a)).
func (s *Scope) Softplus(a *ts.Tensor) *ts.Tensor {
	return s.Apply("softplus", func() (*ts.Tensor, error) { return a.Softplus(false) }, a)
}
