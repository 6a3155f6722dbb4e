package koala

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// Parameters that are not contiguous: a transposed one, a slice of a larger tensor,
// and a contiguous one whose gradient is not; and a frozen one. All move like
// contiguous copies.
func TestLayouts(t *testing.T) {
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			var odd, plain []*ts.Tensor
			err := torch.Do(func(s *torch.Scope) error {
				values := make([]float32, 15)
				for i := range values {
					values[i] = float32(math.Sin(float64(3 * i))) // of full rank
				}
				base := torch.FromSlice(s, values, 3, 5)
				wide := s.Empty([]int64{3, 9}, gotch.Float, gotch.CPU)
				odd = []*ts.Tensor{
					s.Detach(s.Transpose(s.Clone(base), 0, 1)),
					s.Detach(s.Narrow(wide, 1, 2, 5)),
					s.Clone(base),
					s.Clone(base),
				}
				s.CopyInto(odd[1], base)
				for i, p := range odd {
					c := s.Clone(s.Contiguous(p))
					plain = append(plain, s.Keep(c))
					s.Keep(p)
					s.RequireGrad(p, i != 3)
					s.RequireGrad(c, i != 3)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				for _, p := range slices.Concat(odd, plain) {
					_ = p.Drop()
				}
			})
			o := optionsFor(kind)
			o["clip"] = 1.0
			tolerance := 1e-6
			if kind.Has("ns_bfloat16") { // the kernel's iterations are not the operators'
				o["ns_bfloat16"], tolerance = false, 2e-5
			}
			opts := []Optimizer{
				newOptimizer(t, kind, []Group{{Params: Params(odd...), WeightDecay: 0.01}}, o),
				newOptimizer(t, kind, []Group{{Params: Params(plain...), WeightDecay: 0.01}}, o),
			}
			for step := range 4 {
				for i, params := range [][]*ts.Tensor{odd, plain} {
					if err := opts[i].Predict(); err != nil {
						t.Fatal(err)
					}
					err := torch.Do(func(s *torch.Scope) error {
						for _, p := range params[:3] {
							s.ClearGrad(p)
							shape := torch.Shape(p)
							// sum(p^T^2): the gradient comes back transposed.
							s.Backward(s.Sum(s.Square(s.Shift(s.Transpose(p, 0, 1), float64(step)/10))))
							if got := torch.Shape(p); !slices.Equal(got, shape) {
								return fmt.Errorf("shape %v became %v", shape, got)
							}
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					info, err := opts[i].Update(Measurement{Loss: 2, MeanSquare: 5})
					if err != nil {
						t.Fatal(err)
					}
					if info.Skipped != 1 {
						t.Errorf("%d tensors are skipped, want the frozen one", info.Skipped)
					}
				}
			}
			for i := range odd {
				if e := worst(valuesOf(t, odd[i]), valuesOf(t, plain[i]), 1); e > tolerance {
					t.Errorf("tensor %d is off by %.2g", i, e)
				}
			}
		})
	}
}

// Tensors of many blocks: both forms agree, and the bits do not depend on the
// number of threads.
func TestFormsAndThreadsAgree(t *testing.T) {
	for _, kind := range spec.Kinds() {
		for _, decay := range []float64{0, 0.01} {
			t.Run(fmt.Sprintf("%s/wd=%v", kind.Name, decay), func(t *testing.T) {
				run := func(operators bool, threads int) [][]float64 {
					defer torchtest.Threads(t, threads)()
					if err := torch.Seed(1, 2, 3); err != nil {
						t.Fatal(err)
					}
					var params []*ts.Tensor
					err := torch.Do(func(s *torch.Scope) error {
						for _, n := range []int64{1, 100003, 7, 33333} {
							p := s.Empty([]int64{n}, gotch.Float, gotch.CPU)
							s.NormalInPlace(p, 0, 1)
							s.RequireGrad(p, true)
							params = append(params, s.Keep(p))
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						for _, p := range params {
							_ = p.Drop()
						}
					}()
					opt := newOptimizer(t, kind, []Group{{Params: Params(params...), WeightDecay: decay}}, optionsFor(kind))
					useOperators(opt, operators)
					for range 5 {
						if err := opt.Predict(); err != nil {
							t.Fatal(err)
						}
						err := torch.Do(func(s *torch.Scope) error {
							for _, p := range params {
								s.ClearGrad(p)
								g := s.Empty(torch.Shape(p), gotch.Float, gotch.CPU)
								s.NormalInPlace(g, 0, 0.01)
								s.BackwardFrom([]*ts.Tensor{p}, []*ts.Tensor{s.Add(g, s.Scale(s.Detach(p), 0.01))})
							}
							return nil
						})
						if err != nil {
							t.Fatal(err)
						}
						if _, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
							t.Fatal(err)
						}
					}
					var values [][]float64
					for _, p := range params {
						values = append(values, valuesOf(t, p))
					}
					return values
				}
				kernels := run(false, 1)
				for i, want := range kernels {
					if !slices.Equal(run(false, 2)[i], want) {
						t.Errorf("tensor %d depends on the number of threads", i)
					}
					if e := worst(run(true, 1)[i], want, 1); e > 5e-6 {
						t.Errorf("tensor %d: the forms differ by %.2g", i, e)
					}
				}
			})
		}
	}
}
