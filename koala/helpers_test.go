package koala

import (
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// cuda is a CUDA device: the test device, or a GPU if the environment asks for one.
var cuda gotch.Device

func TestMain(m *testing.M) {
	cuda = torchtest.Open()
	os.Exit(m.Run())
}

// placed is the device of parameters and gradients.
var placed = gotch.CPU

// newParam returns a leaf with the given values that the test frees.
func newParam(t testing.TB, dtype gotch.DType, values []float64, shape ...int64) *ts.Tensor {
	t.Helper()
	var p *ts.Tensor
	err := torch.Do(func(s *torch.Scope) error {
		p = s.Keep(s.Clone(s.To(torch.FromSlice(s, values, shape...), dtype, placed)))
		s.RequireGrad(p, true)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Drop() })
	return p
}

// setGrad makes values the gradient of p; nil for none.
func setGrad(t testing.TB, p *ts.Tensor, values []float64) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		s.ClearGrad(p)
		if values == nil {
			return nil
		}
		g := s.To(torch.FromSlice(s, values, torch.Shape(p)...), p.DType(), placed)
		s.BackwardFrom([]*ts.Tensor{p}, []*ts.Tensor{g})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func valuesOf(t testing.TB, p *ts.Tensor) []float64 {
	t.Helper()
	var values []float64
	err := torch.Do(func(s *torch.Scope) error {
		values = torch.ToSlice[float64](s, p)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func newOptimizer(t testing.TB, kind *spec.Kind, groups []Group, o setting.Values) Optimizer {
	t.Helper()
	opt, err := New(kind, o, groups)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opt.Close(); err != nil {
			t.Error(err)
		}
	})
	return opt
}

func stateOf(t testing.TB, opt Optimizer) State {
	t.Helper()
	s, err := opt.State()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forms runs a test with the fused kernels, with libtorch's operators alone, and on a
// CUDA device.
func forms(t *testing.T, test func(t *testing.T, operators bool)) {
	t.Run("kernels", func(t *testing.T) { test(t, false) })
	t.Run("operators", func(t *testing.T) { test(t, true) })
	if os.Getenv("KOALA_LM_ISA") != "" {
		return // a device has none of the kernels that differ
	}
	t.Run("device", func(t *testing.T) {
		placed = cuda
		defer func() { placed = gotch.CPU }()
		test(t, true)
	})
}

// useOperators makes opt run without kernels.
func useOperators(opt Optimizer, on bool) { opt.(interface{ useOperators(bool) }).useOperators(on) }

func (o *optimizer) useOperators(on bool) { o.machine.operators = on }

// defaults are the complete values that the kind's authors use.
func defaults(kind *spec.Kind) setting.Values {
	v, err := kind.Complete(nil, nil)
	if err != nil {
		panic(err)
	}
	return v
}

// keepsSquares reports whether the kind's state holds squares of gradients.
func keepsSquares(kind *spec.Kind) bool {
	for _, declared := range kind.New(defaults(kind)).State().Tensors {
		if declared.Squares {
			return true
		}
	}
	return false
}

// with returns a copy of v with one changed value.
func with(v setting.Values, key string, value any) setting.Values {
	c := setting.Values{key: value}
	for k, other := range v {
		if k != key {
			c[k] = other
		}
	}
	return c
}

// worst returns the largest difference, relative where values are above floor.
func worst(got, want []float64, floor float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	d := 0.0
	for i := range got {
		e := math.Abs(got[i]-want[i]) / max(math.Abs(want[i]), floor)
		if math.IsNaN(e) {
			return math.Inf(1)
		}
		d = max(d, e)
	}
	return d
}

func slicesSorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
