package torch_test

import (
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// float64 takes libtorch's own layer, and a view whose rows are not contiguous is
// copied: both give what the native layer gives.
func TestLSTMOfOtherTypesAndLayouts(t *testing.T) {
	const steps, batch, in, units = 6, 5, 7, 12
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(2, 0, 0); err != nil {
			return err
		}
		draw := func(dims ...int64) func(dtype gotch.DType) *ts.Tensor {
			p := s.Empty(dims, gotch.Float, gotch.CPU)
			s.UniformInPlace(p, -0.8, 0.8)
			v := torch.ToSlice[float32](s, p)
			return func(dtype gotch.DType) *ts.Tensor {
				leaf := s.Clone(s.To(torch.FromSlice(s, v, dims...), dtype, gotch.CPU))
				s.RequireGrad(leaf, true)
				return leaf
			}
		}
		x, h, c := draw(batch, steps, in), draw(batch, units), draw(batch, units)
		wIH, wHH, bIH, bHH := draw(4*units, in), draw(4*units, units), draw(4*units), draw(4*units)
		run := func(dtype gotch.DType, contiguous bool) []float64 {
			leaves := []*ts.Tensor{x(dtype), h(dtype), c(dtype), wIH(dtype), wHH(dtype), bIH(dtype), bHH(dtype)}
			input := s.Transpose(leaves[0], 0, 1)
			if contiguous {
				input = s.Contiguous(input)
			}
			y, _, cLast := s.LSTM(input, leaves[1], leaves[2], torch.RNNWeights{
				InputHidden: leaves[3], HiddenHidden: leaves[4], InputBias: leaves[5], HiddenBias: leaves[6]})
			s.Backward(s.Add(s.Sum(s.Square(y)), s.Sum(cLast)))
			out := torch.ToSlice[float64](s, y)
			for _, leaf := range leaves {
				out = append(out, torch.ToSlice[float64](s, s.Grad(leaf))...)
			}
			return out
		}
		native, view, double := run(gotch.Float, true), run(gotch.Float, false), run(gotch.Double, true)
		near(t, "a view's", view, native, 0)
		near(t, "float32's", native, double, 2e-6)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
