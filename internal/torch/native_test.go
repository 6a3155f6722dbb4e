package torch_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// lstmByOperators is the layer in single operators, as the formula reads.
func lstmByOperators(s *torch.Scope, x, h, c *ts.Tensor, w torch.RNNWeights) (y, hLast, cLast *ts.Tensor) {
	steps, n := torch.Shape(x)[0], torch.Shape(h)[1]
	var out []*ts.Tensor
	for t := range steps {
		z := s.Add(s.Linear(s.Select(x, 0, t), w.InputHidden, w.InputBias), s.Linear(h, w.HiddenHidden, w.HiddenBias))
		gate := func(k int64) *ts.Tensor { return s.Narrow(z, 1, k*n, n) }
		i, f, g, o := s.Sigmoid(gate(0)), s.Sigmoid(gate(1)), s.Tanh(gate(2)), s.Sigmoid(gate(3))
		c = s.Add(s.Mul(f, c), s.Mul(i, g))
		h = s.Mul(o, s.Tanh(c))
		out = append(out, h)
	}
	return s.Stack(0, out...), h, c
}

func TestLSTMAgreesWithItsFormula(t *testing.T) {
	for _, shape := range []struct{ steps, batch, in, units int64 }{{1, 1, 3, 2}, {5, 3, 4, 6}, {7, 8, 16, 33}} {
		err := torch.Do(func(s *torch.Scope) error {
			if err := torch.Seed(1, 0, 0); err != nil {
				return err
			}
			leaf := func(dims ...int64) *ts.Tensor {
				p := s.Empty(dims, gotch.Float, gotch.CPU)
				s.UniformInPlace(p, -0.8, 0.8)
				s.RequireGrad(p, true)
				return p
			}
			x := leaf(shape.steps, shape.batch, shape.in)
			h, c := leaf(shape.batch, shape.units), leaf(shape.batch, shape.units)
			w := torch.RNNWeights{
				InputHidden: leaf(4*shape.units, shape.in), HiddenHidden: leaf(4*shape.units, shape.units),
				InputBias: leaf(4 * shape.units), HiddenBias: leaf(4 * shape.units),
			}
			leaves := []*ts.Tensor{x, h, c, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias}
			var results [2][]float64
			for k, layer := range []func(*torch.Scope, *ts.Tensor, *ts.Tensor, *ts.Tensor, torch.RNNWeights) (*ts.Tensor, *ts.Tensor, *ts.Tensor){(*torch.Scope).LSTM, lstmByOperators} {
				y, hLast, cLast := layer(s, x, h, c, w)
				loss := s.Add(s.Sum(s.Square(y)), s.Sum(s.Mul(hLast, cLast)))
				s.Backward(loss)
				results[k] = append(results[k], torch.ToSlice[float64](s, y)...)
				results[k] = append(results[k], torch.ToSlice[float64](s, cLast)...)
				for _, leaf := range leaves {
					results[k] = append(results[k], torch.ToSlice[float64](s, s.Grad(leaf))...)
					s.ClearGrad(leaf)
				}
				if !s.OK() {
					return s.Err()
				}
			}
			for i := range results[0] {
				if got, want := results[0][i], results[1][i]; math.Abs(got-want) > 2e-6*(1+math.Abs(want)) {
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
