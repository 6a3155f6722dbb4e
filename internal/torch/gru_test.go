package torch_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// gruByOperators is the layer in single operators, as the formula reads.
func gruByOperators(s *torch.Scope, x, h *ts.Tensor, w torch.RNNWeights) (y, hLast *ts.Tensor) {
	steps, n := torch.Shape(x)[0], torch.Shape(h)[1]
	var out []*ts.Tensor
	for t := range steps {
		a, b := s.Linear(s.Select(x, 0, t), w.InputHidden, w.InputBias), s.Linear(h, w.HiddenHidden, w.HiddenBias)
		part := func(z *ts.Tensor, k int64) *ts.Tensor { return s.Narrow(z, 1, k*n, n) }
		r, z := s.Sigmoid(s.Add(part(a, 0), part(b, 0))), s.Sigmoid(s.Add(part(a, 1), part(b, 1)))
		c := s.Tanh(s.Add(part(a, 2), s.Mul(r, part(b, 2))))
		h = s.Add(c, s.Mul(z, s.Sub(h, c)))
		out = append(out, h)
	}
	return s.Stack(0, out...), h
}

func TestGRUAgreesWithItsFormula(t *testing.T) {
	for _, shape := range []struct{ steps, batch, in, units int64 }{{1, 1, 3, 2}, {5, 3, 4, 6}, {7, 8, 16, 33}} {
		err := torch.Do(func(s *torch.Scope) error {
			if err := torch.Seed(2, 0, 0); err != nil {
				return err
			}
			leaf := func(dims ...int64) *ts.Tensor {
				p := s.Empty(dims, gotch.Float, gotch.CPU)
				s.UniformInPlace(p, -0.8, 0.8)
				s.RequireGrad(p, true)
				return p
			}
			x, h := leaf(shape.steps, shape.batch, shape.in), leaf(shape.batch, shape.units)
			w := torch.RNNWeights{
				InputHidden: leaf(3*shape.units, shape.in), HiddenHidden: leaf(3*shape.units, shape.units),
				InputBias: leaf(3 * shape.units), HiddenBias: leaf(3 * shape.units),
			}
			leaves := []*ts.Tensor{x, h, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias}
			var results [2][]float64
			for k, layer := range []func(*torch.Scope, *ts.Tensor, *ts.Tensor, torch.RNNWeights) (*ts.Tensor, *ts.Tensor){(*torch.Scope).GRU, gruByOperators} {
				y, hLast := layer(s, x, h, w)
				s.Backward(s.Add(s.Sum(s.Square(y)), s.Sum(hLast)))
				results[k] = append(results[k], torch.ToSlice[float64](s, y)...)
				for _, leaf := range leaves {
					results[k] = append(results[k], torch.ToSlice[float64](s, s.Grad(leaf))...)
					s.ClearGrad(leaf)
				}
				if !s.OK() {
					return s.Err()
				}
			}
			for i := range results[0] {
				if got, want := results[0][i], results[1][i]; math.Abs(got-want) > 5e-6*(1+math.Abs(want)) {
					t.Errorf("%+v: number %d of outputs and gradients is %g, want %g", shape, i, got, want)
					break
				}
			}
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
