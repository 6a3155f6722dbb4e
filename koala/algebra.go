package koala

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// tensor implements the algebra of formulas with libtorch's operators.
var _ spec.Tensor = (*tensor)(nil)

// operand is the only place that knows what a formula's handle is. A formula combines the
// tensors of one machine alone.
func operand(t spec.Tensor) *tensor { return t.(*tensor) }

// raw turns a formula's handle into a tensor, for which the recorded operations must run.
func raw(t spec.Tensor) *ts.Tensor {
	a := operand(t)
	a.m.flush(false)
	return a.t
}

// each is an operator on lists, with a number as second operand if there is one.
func (a *tensor) each(name string, v ...float64) spec.Tensor {
	return a.m.do(&operation{name: name, inputs: []*tensor{a}, values: v, out: &tensor{m: a.m}})
}

// with is an operator on lists of two tensors.
func (a *tensor) with(name string, b spec.Tensor) spec.Tensor {
	return a.m.do(&operation{name: name, inputs: []*tensor{a, operand(b)}, out: &tensor{m: a.m}})
}

// change is an operator that changes a. It has no result.
func (a *tensor) change(name string, b spec.Tensor, v ...float64) {
	op := &operation{name: name, inputs: []*tensor{a}, values: v}
	if b != nil {
		op.inputs = append(op.inputs, operand(b))
	}
	a.m.do(op)
}

// alone is an operator of libtorch on one tensor, or on a and others.
func (a *tensor) alone(f func(s *torch.Scope) *ts.Tensor, others ...spec.Tensor) spec.Tensor {
	op := &operation{inputs: []*tensor{a}, out: &tensor{m: a.m}}
	for _, t := range others {
		op.inputs = append(op.inputs, operand(t))
	}
	op.alone = func() *ts.Tensor { return f(a.m.scope) }
	return a.m.do(op)
}

// view is alone with a result that may share a's storage.
func (a *tensor) view(f func(s *torch.Scope) *ts.Tensor) spec.Tensor {
	return a.m.do(&operation{inputs: []*tensor{a}, alone: func() *ts.Tensor { return f(a.m.scope) }, out: &tensor{m: a.m, base: a}})
}

// apply is alone with an operator that the scope has no method for.
func (a *tensor) apply(name string, f func() (*ts.Tensor, error), others ...spec.Tensor) spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor { return s.Apply(name, f, a.t) }, others...)
}

func (a *tensor) Shape() []int64 { return torch.Shape(a.computed()) }

// computed is a's tensor. What it holds may still change.
func (a *tensor) computed() *ts.Tensor {
	if a.level > 0 {
		a.m.flush(false)
	}
	return a.t
}

func (a *tensor) Add(b spec.Tensor) spec.Tensor { return a.with("add", b) }
func (a *tensor) Sub(b spec.Tensor) spec.Tensor { return a.with("sub", b) }
func (a *tensor) Mul(b spec.Tensor) spec.Tensor { return a.with("mul", b) }
func (a *tensor) Div(b spec.Tensor) spec.Tensor { return a.with("div", b) }
func (a *tensor) Max(b spec.Tensor) spec.Tensor { return a.with("maximum", b) }
func (a *tensor) Scale(v float64) spec.Tensor   { return a.each("scale", v) }
func (a *tensor) Shift(v float64) spec.Tensor   { return a.each("shift", v) }
func (a *tensor) AtLeast(v float64) spec.Tensor { return a.each("clamp_min", v) }
func (a *tensor) Square() spec.Tensor           { return a.each("square") }
func (a *tensor) Sqrt() spec.Tensor             { return a.each("sqrt") }
func (a *tensor) Sign() spec.Tensor             { return a.each("sign") }
func (a *tensor) Abs() spec.Tensor              { return a.each("abs") }
func (a *tensor) Dot(b spec.Tensor) spec.Tensor { return a.with("dot", b) }

func (a *tensor) Mix(u float64, b spec.Tensor, v float64) spec.Tensor {
	switch v {
	case 0:
		return a.Scale(u)
	case 1:
		return a.Scale(u).Add(b)
	}
	return a.Scale(u).Add(b.Scale(v))
}

func (a *tensor) Sum(dims ...int64) spec.Tensor {
	return a.apply("sum", func() (*ts.Tensor, error) { return a.t.SumDimIntlist(dims, true, a.t.DType(), false) })
}

func (a *tensor) Mean(dims ...int64) spec.Tensor {
	return a.apply("mean", func() (*ts.Tensor, error) { return a.t.MeanDim(dims, true, a.t.DType(), false) })
}

func (a *tensor) Norm(dims ...int64) spec.Tensor { return a.Square().Sum(dims...).Sqrt() }

func (a *tensor) MatMul(b spec.Tensor) spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor { return s.MatMul(a.t, operand(b).t) }, b)
}

// factorizable converts to a type that has factorizations.
func factorizable(s *torch.Scope, t *ts.Tensor) *ts.Tensor {
	if t != nil && (t.DType() == gotch.Half || t.DType() == gotch.BFloat16) {
		return s.Apply("to", func() (*ts.Tensor, error) { return t.Totype(gotch.Float, false) }, t)
	}
	return t
}

func (a *tensor) QR() spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor {
		x := factorizable(s, a.t)
		return s.Apply("linalg_qr", func() (*ts.Tensor, error) {
			q, r, err := ts.LinalgQr(x, "reduced")
			if err == nil {
				err = r.Drop()
			}
			return q, err
		}, x)
	})
}

func (a *tensor) Eigenvectors() spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor {
		x := factorizable(s, a.t)
		vectors := s.Apply("linalg_eigh", func() (*ts.Tensor, error) {
			values, vectors, err := x.LinalgEigh("L", false)
			if err == nil {
				err = values.Drop()
			}
			return vectors, err
		}, x)
		return s.Apply("flip", func() (*ts.Tensor, error) { return vectors.Flip([]int64{-1}, false) }, vectors)
	})
}

func (a *tensor) Descending() spec.Tensor {
	return a.apply("argsort", func() (*ts.Tensor, error) { return a.t.Argsort(0, true, false) })
}

func (a *tensor) Pick(dim int64, order spec.Tensor) spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor { return s.IndexSelect(a.t, dim, operand(order).t) }, order)
}

func (a *tensor) T() spec.Tensor {
	return a.view(func(s *torch.Scope) *ts.Tensor { return s.Transpose(a.t, -1, -2) })
}

func (a *tensor) Reshape(shape ...int64) spec.Tensor {
	return a.view(func(s *torch.Scope) *ts.Tensor { return s.Reshape(a.t, shape...) })
}

func (a *tensor) Narrow(dim, from, length int64) spec.Tensor {
	return a.view(func(s *torch.Scope) *ts.Tensor { return s.Narrow(a.t, dim, from, length) })
}

func (a *tensor) At(i int64) spec.Tensor {
	return a.view(func(s *torch.Scope) *ts.Tensor { return s.Select(a.t, 0, i) })
}

func (a *tensor) Stack(others ...spec.Tensor) spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor { return s.Stack(0, a.and(others)...) }, others...)
}

func (a *tensor) Join(dim int64, others ...spec.Tensor) spec.Tensor {
	return a.alone(func(s *torch.Scope) *ts.Tensor { return s.Cat(dim, a.and(others)...) }, others...)
}

func (a *tensor) and(others []spec.Tensor) []*ts.Tensor {
	all := []*ts.Tensor{a.t}
	for _, t := range others {
		all = append(all, operand(t).t)
	}
	return all
}

var types = map[spec.Type]gotch.DType{
	spec.Float16: gotch.Half, spec.BFloat16: gotch.BFloat16, spec.Float32: gotch.Float, spec.Float64: gotch.Double,
}

func (a *tensor) Type() spec.Type {
	if t := a.computed(); t != nil {
		for name, dtype := range types {
			if t.DType() == dtype {
				return name
			}
		}
	}
	return ""
}

func (a *tensor) To(t spec.Type) spec.Tensor {
	return a.view(func(s *torch.Scope) *ts.Tensor {
		dtype, ok := types[t]
		if !ok {
			s.Fail(fmt.Errorf("there is no type %q", t))
		}
		return s.Apply("to", func() (*ts.Tensor, error) { return a.t.Totype(dtype, false) }, a.t)
	})
}

func (a *tensor) Like(b spec.Tensor) spec.Tensor {
	like := operand(b).computed()
	return a.view(func(s *torch.Scope) *ts.Tensor {
		return s.Apply("to", func() (*ts.Tensor, error) { return a.t.Totype(like.DType(), false) }, a.t, like)
	})
}

func (a *tensor) Set(b spec.Tensor)        { a.change("copy_", b) }
func (a *tensor) AddInPlace(b spec.Tensor) { a.change("add_", b) }
func (a *tensor) ScaleInPlace(v float64)   { a.change("scale_", nil, v) }
func (a *tensor) FillInPlace(v float64)    { a.m.scope.Fill(raw(a), v) }
