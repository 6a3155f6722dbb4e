package koala

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// All KOALA kinds, step by step, with gradients from 1e-12 to 1e15: nothing
// becomes infinite, no gain exceeds 1.
func TestStressWholeSteps(t *testing.T) {
	steps := 100_000
	if raceEnabled {
		steps = 5_000
	}
	for _, kind := range []*spec.Kind{spec.KoalaV, spec.KoalaM, spec.KoalaPP, spec.KoalaD} {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(3, 4))
			p := newParam(t, gotch.Float, make([]float64, 4), 4)
			grad := make([]float32, 4)
			opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, defaults(kind))
			for step := range steps {
				scale := math.Pow(10, -12+27*random.Float64()*random.Float64())
				for i := range grad {
					grad[i] = float32(scale * random.NormFloat64())
				}
				loss := math.Pow(10, -6+8*random.Float64())
				err := torch.Do(func(s *torch.Scope) error {
					if err := opt.Predict(); err != nil {
						return err
					}
					s.ClearGrad(p)
					s.BackwardFrom([]*ts.Tensor{p}, []*ts.Tensor{torch.FromSlice(s, grad, 4)})
					info, err := opt.Update(Measurement{Loss: loss, MeanSquare: loss * loss * (1 + random.Float64())})
					if err != nil {
						return err
					}
					if info.NonFinite || !(info.Gain >= 0 && info.Gain <= 1) || !(info.R > 0) || !finite(info.EffectiveLR) || info.Sigma < 0 || !finite(info.Sigma) {
						return fmt.Errorf("after gradient %v: %+v", grad, info)
					}
					return nil
				})
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
			}
			for _, v := range valuesOf(t, p) {
				if !finite(v) {
					t.Fatalf("a parameter is %v", v)
				}
			}
		})
	}
}

// Neither libtorch's tensors nor resident memory grow over 10,000 steps.
func TestMemoryIsFlat(t *testing.T) {
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				p := newParam(t, gotch.Float, make([]float64, 64), 8, 8)
				opt := newOptimizer(t, kind, []Group{{Params: Params(p), WeightDecay: 1e-3}}, optionsFor(kind))
				useOperators(opt, operators)
				setGrad(t, p, make([]float64, 64))
				setGrad(t, p, slicesRepeat(0.01, 64))
				run := func(steps int) {
					for range steps {
						if err := opt.Predict(); err != nil {
							t.Fatal(err)
						}
						if _, err := opt.Update(Measurement{Loss: 1, MeanSquare: 1}); err != nil {
							t.Fatal(err)
						}
					}
				}
				run(200)
				tensors, scalars := len(ts.ExistingTensors), len(ts.ExistingScalars)
				steps := 10_000
				if operators {
					steps = 1_000
				}
				// Go's heap and the allocator's pools grow by some MB once; what leaks grows each time.
				grown := 0
				for range 3 {
					memory := residentKB(t)
					run(steps)
					if grown = residentKB(t) - memory; grown <= 4096 || raceEnabled {
						break
					}
				}
				if n := len(ts.ExistingTensors) - tensors; n != 0 {
					t.Errorf("%d more tensors", n)
				}
				if n := len(ts.ExistingScalars) - scalars; n != 0 {
					t.Errorf("%d more scalars", n)
				}
				if grown > 4096 && !raceEnabled {
					t.Errorf("%d KB more memory each %d steps", grown, steps)
				}
			})
		})
	}
}

func slicesRepeat(v float64, n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = v
	}
	return values
}

// residentKB is this process's resident memory.
func residentKB(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
