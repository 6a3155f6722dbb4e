package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// linear is y = W x + b over the last dimension, without b where bias is nil.
type linear struct {
	weight *ts.Tensor // [out, in]; [in, out] where transposed
	bias   *ts.Tensor // [out]
	// transposed marks GPT-2's layout of weights (Hugging Face's Conv1D).
	transposed bool
}

// newLinear makes a layer with the weight [out, in].
func newLinear(p Builder, init Init, bias bool, in, out int64) linear {
	l := linear{weight: p.Matrix("weight", init, out, in)}
	if bias {
		l.bias = p.Vector("bias", Constant(0), out)
	}
	return l
}

// newConv1D makes a layer with a bias and the weight [in, out]. parts are the output
// sizes of the layers that share the weight, none for one layer.
func newConv1D(p Builder, init Init, in, out int64, parts ...int64) linear {
	return linear{
		weight: p.Fused("weight", init, 1, parts, in, out), bias: p.Vector("bias", Constant(0), out), transposed: true,
	}
}

// affine expects the weight as [out, in].
func (l linear) affine(s *torch.Scope) torch.Affine {
	w := l.weight
	if l.transposed {
		w = s.Transpose(w, 0, 1)
	}
	return torch.Affine{Weight: w, Bias: l.bias}
}

func (l linear) apply(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	return s.Linear(x, l.affine(s).Weight, l.bias)
}

// norm is layer normalisation (Ba et al. 2016) over the last dimension. Without a
// bias it is RMSNorm (Zhang & Sennrich 2019).
type norm struct {
	gain *ts.Tensor // [D]
	bias *ts.Tensor // [D]; nil makes it RMSNorm
	eps  float64    // added to the variance or mean square before its root
}

func newNorm(p Builder, kind string, eps float64, width int64) norm {
	n := norm{gain: p.Vector("weight", Constant(1), width), eps: eps}
	if kind == LayerNorm {
		n.bias = p.Vector("bias", Constant(0), width)
	}
	return n
}

func (n norm) apply(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	return s.Norm(x, n.gain, n.bias, n.eps)
}

// drop zeroes elements of x [T, B, D] with probability p and scales the rest by
// 1/(1-p). With locked, a sequence keeps one mask [1, B, D] for all its time steps
// (Gal & Ghahramani 2016).
func drop(s *torch.Scope, x *ts.Tensor, p float64, locked bool) *ts.Tensor {
	if p == 0 || !locked || x == nil {
		return s.Dropout(x, p)
	}
	return s.Mul(x, mask(s, s.Narrow(x, 0, 0, 1), p))
}

// dropRows zeroes whole rows of an embedding [V, E]: a dropped word is dropped
// everywhere in the batch.
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
