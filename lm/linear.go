package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// linear is y = W x + b over the last dimension, without b where bias is nil.
type linear struct {
	weight *ts.Tensor // [out, in]; [in, out] where transposed
	bias   *ts.Tensor // [out]
	// transposed is how GPT-2 keeps its weights (Hugging Face's Conv1D).
	transposed bool
}

// form is what all linear layers of a network have in common.
type form struct {
	biases     bool
	transposed bool
}

// outDim is the dimension of a weight that runs over its outputs.
func (f form) outDim() int {
	if f.transposed {
		return 1
	}
	return 0
}

func (f form) linear(p *params, name string, init initializer, in, out int64) linear {
	l := linear{transposed: f.transposed}
	if f.transposed {
		l.weight = p.add(name+".weight", init, in, out)
	} else {
		l.weight = p.add(name+".weight", init, out, in)
	}
	if f.biases {
		l.bias = p.add(name+".bias", constant(0), out)
	}
	return l
}

func (l linear) apply(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	return s.Linear(x, l.affine(s).Weight, l.bias)
}

// affine has the weight as [out, in].
func (l linear) affine(s *torch.Scope) torch.Affine {
	w := l.weight
	if l.transposed {
		w = s.Transpose(w, 0, 1)
	}
	return torch.Affine{Weight: w, Bias: l.bias}
}
