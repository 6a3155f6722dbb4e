package koala

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// orthogonalKinds are the kinds that iterate.
func orthogonalKinds() []*spec.Kind {
	return slices.DeleteFunc(slices.Clone(spec.Kinds()), func(k *spec.Kind) bool { return !k.Has("ns_steps") })
}

// matrices of every form that the kernel treats in its own way: square, wide, tall;
// smaller and larger than its panels; whole, and several in one tensor.
var orthogonalMatrices = []struct {
	rows, columns int64
	parts         []int64
	dim           int
	transposed    bool // in memory
	zero          bool // the gradient
}{
	{rows: 2, columns: 2},
	{rows: 64, columns: 64},
	{rows: 33, columns: 150},
	{rows: 150, columns: 33},
	{rows: 2, columns: 97},
	{rows: 130, columns: 70, transposed: true},
	{rows: 70, columns: 130, transposed: true},
	{rows: 120, columns: 50, parts: []int64{40, 1, 79}},
	{rows: 50, columns: 120, parts: []int64{40, 1, 79}, dim: 1},
	{rows: 60, columns: 90, parts: []int64{30, 30}, transposed: true},
	{rows: 60, columns: 90, parts: []int64{30, 60}, dim: 1, transposed: true},
	{rows: 40, columns: 40, zero: true},
}

// runOrthogonal makes five steps and returns the parameters.
func runOrthogonal(t *testing.T, kind *spec.Kind, dtype gotch.DType, values setting.Values, operators bool, threads int) [][]float64 {
	t.Helper()
	defer torchtest.Threads(t, threads)()
	if err := torch.Seed(1, 2, 3); err != nil {
		t.Fatal(err)
	}
	var params []Param
	defer func() {
		for _, p := range params {
			_ = p.Tensor.Drop()
		}
	}()
	err := torch.Do(func(s *torch.Scope) error {
		for _, m := range orthogonalMatrices {
			p := s.Empty([]int64{m.rows, m.columns}, dtype, gotch.CPU)
			s.NormalInPlace(p, 0, 1)
			if m.transposed {
				p = s.Detach(s.Transpose(s.Clone(s.Contiguous(s.Transpose(p, 0, 1))), 0, 1))
			}
			s.RequireGrad(p, true)
			params = append(params, Param{Tensor: s.Keep(p), Role: spec.Matrix, Parts: m.parts, PartsDim: m.dim})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	opt := newOptimizer(t, kind, []Group{{Params: params, WeightDecay: 0.1}}, values)
	useOperators(opt, operators)
	for range 5 {
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		err := torch.Do(func(s *torch.Scope) error {
			for i, p := range params {
				s.ClearGrad(p.Tensor)
				g := s.Empty(torch.Shape(p.Tensor), dtype, gotch.CPU)
				s.NormalInPlace(g, 0, 0.01)
				if orthogonalMatrices[i].zero {
					s.Fill(g, 0)
				}
				s.BackwardFrom([]*ts.Tensor{p.Tensor}, []*ts.Tensor{g})
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
	var all [][]float64
	for _, p := range params {
		all = append(all, valuesOf(t, p.Tensor))
	}
	return all
}

// The kernel iterates on X X^T, in half of each product; the operators on X, as
// defined. Both agree, and the kernel's bits do not depend on the number of threads:
// with 16 threads they share each matrix.
func TestOrthogonalKernel(t *testing.T) {
	for _, kind := range orthogonalKinds() {
		for dtype, tolerance := range map[gotch.DType]float64{gotch.Float: 2e-5, gotch.Double: 1e-12} {
			for _, nesterov := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%v/nesterov=%v", kind.Name, dtype, nesterov), func(t *testing.T) {
					values := with(with(defaults(kind), "nesterov", nesterov), "ns_bfloat16", false)
					kernel := runOrthogonal(t, kind, dtype, values, false, 1)
					for i, want := range runOrthogonal(t, kind, dtype, values, true, 1) {
						if e := worst(kernel[i], want, 1); e > tolerance {
							t.Errorf("matrix %d: the forms differ by %.2g", i, e)
						}
					}
					for _, threads := range []int{2, 16} {
						for i, got := range runOrthogonal(t, kind, dtype, values, false, threads) {
							if !slices.Equal(got, kernel[i]) {
								t.Errorf("matrix %d has other bits with %d threads", i, threads)
							}
						}
					}
				})
			}
		}
	}
}

// So many iterations that the kernel's rounding errors would grow run as operators.
func TestOrthogonalIterations(t *testing.T) {
	for _, kind := range orthogonalKinds() {
		for steps, same := range map[int]bool{1: false, 5: false, 6: true, 12: true} {
			values := with(with(defaults(kind), "ns_steps", steps), "ns_bfloat16", false)
			kernel := runOrthogonal(t, kind, gotch.Float, values, false, 1)
			operators := runOrthogonal(t, kind, gotch.Float, values, true, 1)
			equal := true
			for i := range kernel {
				if e := worst(kernel[i], operators[i], 1); e > 2e-5 {
					t.Errorf("%s, %d iterations, matrix %d: the forms differ by %.2g", kind, steps, i, e)
				}
				equal = equal && slices.Equal(kernel[i], operators[i])
			}
			if equal != same && kind != spec.KoalaK { // whose sums are the kernels' too
				t.Errorf("%s, %d iterations: the forms have the same bits: %v", kind, steps, equal)
			}
		}
	}
}
