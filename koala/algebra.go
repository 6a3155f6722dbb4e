package koala

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// tensor implements the algebra of formulas with libtorch's tensors. A nil t is the
// result of a failed operation.
type tensor struct {
	m *machine
	t *ts.Tensor
}

var _ spec.Tensor = (*tensor)(nil)

// raw is the only place that turns a formula's handle into a tensor.
func raw(t spec.Tensor) *ts.Tensor { return t.(*tensor).t }

func (a *tensor) new(t *ts.Tensor) spec.Tensor { return &tensor{a.m, t} }

func (a *tensor) s() *torch.Scope { return a.m.scope }

// apply runs an operator of libtorch that the scope has no method for.
func (a *tensor) apply(name string, f func() (*ts.Tensor, error), inputs ...*ts.Tensor) spec.Tensor {
	return a.new(a.s().Apply(name, f, append(inputs, a.t)...))
}

func (a *tensor) Shape() []int64 { return torch.Shape(a.t) }

func (a *tensor) Add(b spec.Tensor) spec.Tensor { return a.new(a.s().Add(a.t, raw(b))) }
func (a *tensor) Sub(b spec.Tensor) spec.Tensor { return a.new(a.s().Sub(a.t, raw(b))) }
func (a *tensor) Mul(b spec.Tensor) spec.Tensor { return a.new(a.s().Mul(a.t, raw(b))) }
func (a *tensor) Div(b spec.Tensor) spec.Tensor { return a.new(a.s().Div(a.t, raw(b))) }

func (a *tensor) Max(b spec.Tensor) spec.Tensor {
	return a.apply("maximum", func() (*ts.Tensor, error) { return a.t.Maximum(raw(b), false) }, raw(b))
}

func (a *tensor) Scale(v float64) spec.Tensor { return a.new(a.s().Scale(a.t, v)) }
func (a *tensor) Shift(v float64) spec.Tensor { return a.new(a.s().Shift(a.t, v)) }

func (a *tensor) AtLeast(v float64) spec.Tensor {
	return a.apply("clamp_min", func() (*ts.Tensor, error) { return a.t.ClampMin(a.s().Float(v), false) })
}

func (a *tensor) Mix(u float64, b spec.Tensor, v float64) spec.Tensor {
	switch v {
	case 0:
		return a.Scale(u)
	case 1:
		return a.Scale(u).Add(b)
	}
	return a.Scale(u).Add(b.Scale(v))
}

func (a *tensor) Square() spec.Tensor { return a.new(a.s().Square(a.t)) }
func (a *tensor) Sqrt() spec.Tensor   { return a.new(a.s().Sqrt(a.t)) }

func (a *tensor) Sign() spec.Tensor {
	return a.apply("sign", func() (*ts.Tensor, error) { return a.t.Sign(false) })
}

func (a *tensor) Abs() spec.Tensor {
	return a.apply("abs", func() (*ts.Tensor, error) { return a.t.Abs(false) })
}

func (a *tensor) Dot(b spec.Tensor) spec.Tensor {
	s := a.s()
	x := wide(s, a.t)
	if raw(b) == a.t {
		return a.new(s.Sum(s.Square(x)))
	}
	return a.new(s.Sum(s.Mul(x, wide(s, raw(b)))))
}

func (a *tensor) Sum(dims ...int64) spec.Tensor {
	return a.apply("sum", func() (*ts.Tensor, error) { return a.t.SumDimIntlist(dims, true, a.t.DType(), false) })
}

func (a *tensor) Mean(dims ...int64) spec.Tensor {
	return a.apply("mean", func() (*ts.Tensor, error) { return a.t.MeanDim(dims, true, a.t.DType(), false) })
}

func (a *tensor) Norm(dims ...int64) spec.Tensor { return a.Square().Sum(dims...).Sqrt() }

func (a *tensor) MatMul(b spec.Tensor) spec.Tensor { return a.new(a.s().MatMul(a.t, raw(b))) }
func (a *tensor) T() spec.Tensor                   { return a.new(a.s().Transpose(a.t, -1, -2)) }

// Factorizations exist only in float32 and float64.
func (a *tensor) factorizable() *tensor {
	if t := a.Type(); t == spec.Float16 || t == spec.BFloat16 {
		return &tensor{a.m, raw(a.To(spec.Float32))}
	}
	return a
}

func (a *tensor) QR() spec.Tensor {
	x := a.factorizable()
	return x.apply("linalg_qr", func() (*ts.Tensor, error) {
		q, r, err := ts.LinalgQr(x.t, "reduced")
		if err == nil {
			err = r.Drop()
		}
		return q, err
	})
}

func (a *tensor) Eigenvectors() spec.Tensor {
	x := a.factorizable()
	vectors := x.apply("linalg_eigh", func() (*ts.Tensor, error) {
		values, vectors, err := x.t.LinalgEigh("L", false)
		if err == nil {
			err = values.Drop()
		}
		return vectors, err
	})
	return a.apply("flip", func() (*ts.Tensor, error) { return raw(vectors).Flip([]int64{-1}, false) }, raw(vectors))
}

func (a *tensor) Descending() spec.Tensor {
	return a.apply("argsort", func() (*ts.Tensor, error) { return a.t.Argsort(0, true, false) })
}

func (a *tensor) Pick(dim int64, order spec.Tensor) spec.Tensor {
	return a.new(a.s().IndexSelect(a.t, dim, raw(order)))
}

func (a *tensor) Reshape(shape ...int64) spec.Tensor { return a.new(a.s().Reshape(a.t, shape...)) }

func (a *tensor) Narrow(dim, from, length int64) spec.Tensor {
	return a.new(a.s().Narrow(a.t, dim, from, length))
}

func (a *tensor) Stack(others ...spec.Tensor) spec.Tensor {
	return a.new(a.s().Stack(0, a.with(others)...))
}

func (a *tensor) Join(dim int64, others ...spec.Tensor) spec.Tensor {
	return a.new(a.s().Cat(dim, a.with(others)...))
}

func (a *tensor) with(others []spec.Tensor) []*ts.Tensor {
	all := []*ts.Tensor{a.t}
	for _, t := range others {
		all = append(all, raw(t))
	}
	return all
}

func (a *tensor) At(i int64) spec.Tensor { return a.new(a.s().Select(a.t, 0, i)) }

var types = map[spec.Type]gotch.DType{
	spec.Float16: gotch.Half, spec.BFloat16: gotch.BFloat16, spec.Float32: gotch.Float, spec.Float64: gotch.Double,
}

func (a *tensor) Type() spec.Type {
	if a.t != nil {
		for name, dtype := range types {
			if a.t.DType() == dtype {
				return name
			}
		}
	}
	return ""
}

func (a *tensor) To(t spec.Type) spec.Tensor {
	dtype, ok := types[t]
	if !ok {
		a.s().Fail(fmt.Errorf("there is no type %q", t))
		return a.new(nil)
	}
	return a.apply("to", func() (*ts.Tensor, error) { return a.t.Totype(dtype, false) })
}

func (a *tensor) Like(b spec.Tensor) spec.Tensor {
	return a.apply("to", func() (*ts.Tensor, error) { return a.t.Totype(raw(b).DType(), false) }, raw(b))
}

func (a *tensor) Set(b spec.Tensor)        { a.s().CopyInto(a.t, raw(b)) }
func (a *tensor) AddInPlace(b spec.Tensor) { a.s().AddInPlace(a.t, raw(b)) }
func (a *tensor) ScaleInPlace(v float64)   { a.s().ScaleInPlace(a.t, v) }
func (a *tensor) FillInPlace(v float64)    { a.s().Fill(a.t, v) }
