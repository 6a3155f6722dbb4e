package koala

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// Every kind averages its weights: Swap gives the average of the formula, then the
// same weights again, bit for bit. Training is not affected.
func TestAverage(t *testing.T) {
	const steps = 8
	for _, kind := range spec.Kinds() {
		if kind.Averages {
			continue
		}
		for _, test := range []struct {
			name   string
			values setting.Values
			share  func(n int) float64 // share of the weights after the n-th counted step
			start  int
		}{
			{"uniform", setting.Values{"average": "uniform"}, func(n int) float64 { return 1 / float64(n) }, 0},
			{"uniform from a step on", setting.Values{"average": "uniform", "average_start": 3}, func(n int) float64 { return 1 / float64(n) }, 3},
			{"exponential", setting.Values{"average": "exponential", "average_memory": 0.6}, func(n int) float64 { return max(0.4, 1/float64(n)) }, 0},
			{"polynomial", setting.Values{"average": "polynomial"}, func(n int) float64 { return 10 / float64(n+9) }, 0},
		} {
			t.Run(kind.Name+"/"+test.name, func(t *testing.T) {
				plain := newRig(t, kind, gotch.Double, nil, 0)
				averaged := newRig(t, kind, gotch.Double, test.values, 0)
				var want [][]float64
				for step := range steps {
					plain.step(t, step, nil)
					averaged.step(t, step, nil)
					if n := step + 1 - test.start; n >= 1 {
						for i, p := range plain.params {
							w := valuesOf(t, p)
							if n == 1 {
								want = append(want, w)
								continue
							}
							for j := range w {
								want[i][j] += test.share(n) * (w[j] - want[i][j])
							}
						}
					}
				}
				for i, p := range averaged.params {
					sameBits(t, "weights", valuesOf(t, p), valuesOf(t, plain.params[i]))
				}
				if !averaged.opt.Averaging() || plain.opt.Averaging() {
					t.Fatal("the optimizer keeps no average, or one that nobody asked for")
				}
				if err := averaged.opt.Swap(); err != nil {
					t.Fatal(err)
				}
				for i, p := range averaged.params {
					for j, got := range valuesOf(t, p) {
						if math.Abs(got-want[i][j]) > 1e-12*(1+math.Abs(want[i][j])) {
							t.Fatalf("average %d of tensor %d is %v, want %v", j, i, got, want[i][j])
						}
					}
				}
				if err := averaged.opt.Swap(); err != nil {
					t.Fatal(err)
				}
				for i, p := range averaged.params {
					sameBits(t, "weights after two swaps", valuesOf(t, p), valuesOf(t, plain.params[i]))
				}
			})
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i := range want {
		if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}
