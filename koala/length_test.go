package koala

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// TestLength compares the lengths of steps by group with the distances between the
// parameters before Predict and after Update. Measuring changes no bit of a step.
func TestLength(t *testing.T) {
	roles := []spec.Role{spec.Matrix, spec.Vector, spec.Embedding, spec.Output, spec.Matrix, spec.Vector}
	shapes := [][]int64{{3, 4}, {4}, {5, 2}, {5, 3}, {2, 6}, {3}}
	const frozen = 5
	for _, kind := range spec.Kinds() {
		for _, dtype := range []gotch.DType{gotch.Float, gotch.Double} {
			t.Run(fmt.Sprintf("%s/%v", kind.Name, dtype == gotch.Double), func(t *testing.T) {
				forms(t, func(t *testing.T, operators bool) {
					trajectory := func(measure bool) (params []Param) {
						random := rand.New(rand.NewPCG(3, 4))
						draw := func(shape []int64) []float64 {
							values := make([]float64, 1)
							for _, n := range shape {
								values = make([]float64, int64(len(values))*n)
							}
							for i := range values {
								values[i] = random.NormFloat64()
							}
							return values
						}
						for i, role := range roles {
							params = append(params, Param{Role: role, Tensor: newParam(t, dtype, draw(shapes[i]), shapes[i]...)})
						}
						opt := newOptimizer(t, kind, []Group{{Params: params, WeightDecay: 0.1}}, nil)
						useOperators(opt, operators)
						for k := range 6 {
							opt.MeasureLength(measure && k%2 == 1)
							var before [][]float64
							for _, p := range params {
								before = append(before, valuesOf(t, p.Tensor))
							}
							if err := opt.Predict(); err != nil {
								t.Fatal(err)
							}
							for i, p := range params {
								if g := draw(shapes[i]); i != frozen {
									setGrad(t, p.Tensor, g)
								}
							}
							info, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5})
							if err != nil {
								t.Fatal(err)
							}
							if !measure || k%2 == 0 {
								if info.Length != (spec.Lengths{}) {
									t.Errorf("step %d has the lengths %+v, and nobody asked", k, info.Length)
								}
								continue
							}
							square := map[*float64]float64{}
							for i, p := range params {
								for j, v := range valuesOf(t, p.Tensor) {
									square[info.Length.Of(p.Role)] += (v - before[i][j]) * (v - before[i][j])
								}
							}
							for of, want := range square {
								if want = math.Sqrt(want); !(want > 0) || !(math.Abs(*of-want) <= 1e-6*want) {
									t.Errorf("step %d: one of %+v is %v, want %v", k, info.Length, *of, want)
								}
							}
							if len(square) != 3 {
								t.Errorf("%d groups, want 3", len(square))
							}
						}
						return params
					}
					measured, not := trajectory(true), trajectory(false)
					for i := range measured {
						if d := cmp.Diff(valuesOf(t, measured[i].Tensor), valuesOf(t, not[i].Tensor)); d != "" {
							t.Errorf("measured and not measured, parameter %d differs: %s", i, d)
						}
					}
				})
			})
		}
	}
}

// TestFilterNumbers compares a filter's numbers with the equations of the extended
// Kalman filter, for one tensor with the gradient g:
//
//	n2 = |g|^2 (koala-v), sum g^2/(|g| + eps) in the first step (koala-d)
//	S = sigma n2 + R, gain = sigma n2/S, step = lr sigma (L - L*)/S, sigma <- sigma R/S
func TestFilterNumbers(t *testing.T) {
	g := []float64{0.5, -1.5, 2, 0.25}
	const loss, square, target, lr, sigma, q = 2.5, 7.0, 0.75, 0.5, 0.3, 0.2
	gg, gdg := 0.0, 0.0
	for _, v := range g {
		gg += v * v
		gdg += v * v / (math.Abs(v) + 1e-8)
	}
	for _, c := range []struct {
		kind   *spec.Kind
		n2, r  float64
		length float64 // for a step of 1
	}{
		{spec.KoalaV, gg, 0.9*1 + 0.1*square, math.Sqrt(gg)},
		{spec.KoalaD, gdg, square, math.Sqrt(float64(len(g)))}, // D m = sign g in the first step
	} {
		p := newParam(t, gotch.Double, []float64{1, 2, 3, 4}, 4)
		opt := newOptimizer(t, c.kind, []Group{{Params: Params(p)}}, setting.Values{"lr": lr, "sigma": sigma, "q": q, "target": target})
		opt.MeasureLength(true)
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		setGrad(t, p, g)
		got, err := opt.Update(Measurement{Loss: loss, MeanSquare: square})
		if err != nil {
			t.Fatal(err)
		}
		s := (sigma+q)*c.n2 + c.r
		step := lr * (sigma + q) * (loss - target) / s
		want := StepInfo{
			Sigma: (sigma + q) * c.r / s, R: c.r, Gain: (sigma + q) * c.n2 / s, EffectiveLR: step,
			Innovation: loss - target, GradNorm: math.Sqrt(gg), Length: spec.Lengths{Norms: step * c.length},
		}
		near := cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) <= 1e-7*math.Abs(b) })
		if d := cmp.Diff(want, got, near); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.kind, d)
		}
	}
}
