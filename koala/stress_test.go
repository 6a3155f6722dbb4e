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
)

// Over 100,000 steps with norms, losses and noise over many orders of magnitude
// KOALA-V's sigma stays positive and KOALA-M's P positive semidefinite.
func TestRecursionsStayPositive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	magnitude := func(from, to float64) float64 { return math.Pow(10, from+(to-from)*random.Float64()) }
	m := koalaM{p00: 0.1, p11: 0.1, a: 0.9, qw: 0.01, qv: 0.01}
	sigma := 0.1
	for step := range 100_000 {
		if step%1000 == 0 { // other settings, degenerate ones too
			m.a = random.Float64()
			m.qw, m.qv = magnitude(-12, 2), magnitude(-12, 2)
			if step%3000 == 0 {
				m.qw, m.qv, m.a = 0, 0, 1
			}
		}
		n2, r := magnitude(-18, 40), max(minNoise, magnitude(-120, 4))
		sigma += magnitude(-8, 1)
		if sigma = update(sigma, n2, r); !(sigma > 0) || !finite(sigma) {
			t.Fatalf("step %d: sigma is %v", step, sigma)
		}
		m.propagate()
		m.condition(n2, r)
		if !(m.p00 > 0) || m.p11 < 0 || m.p01*m.p01 > m.p00*m.p11*(1+1e-9) || !finite(m.p00+m.p01+m.p11) {
			t.Fatalf("step %d: P is %v %v %v", step, m.p00, m.p01, m.p11)
		}
	}
}

// All KOALA kinds, step by step, with gradients from 1e-12 to 1e15: nothing
// becomes infinite, no gain exceeds 1.
func TestStressWholeSteps(t *testing.T) {
	steps := 100_000
	if raceEnabled {
		steps = 5_000
	}
	for _, kind := range []string{KindV, KindM, KindPP, KindD} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(3, 4))
			p := newParam(t, gotch.Float, make([]float64, 4), 4)
			grad := make([]float32, 4)
			opt := newOptimizer(t, kind, []Group{{Params: []*ts.Tensor{p}}}, Defaults(kind))
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
					info, err := opt.Update(Measurement{Loss: loss, LossVar: loss * loss * (1 + random.Float64())})
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
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				p := newParam(t, gotch.Float, make([]float64, 64), 8, 8)
				opt := newOptimizer(t, kind, []Group{{Params: []*ts.Tensor{p}, WeightDecay: 1e-3}}, optionsFor(kind))
				useOperators(opt, operators)
				setGrad(t, p, make([]float64, 64))
				setGrad(t, p, slicesRepeat(0.01, 64))
				run := func(steps int) {
					for range steps {
						if err := opt.Predict(); err != nil {
							t.Fatal(err)
						}
						if _, err := opt.Update(Measurement{Loss: 1, LossVar: 1}); err != nil {
							t.Fatal(err)
						}
					}
				}
				run(200)
				tensors, scalars, memory := len(ts.ExistingTensors), len(ts.ExistingScalars), residentKB(t)
				steps := 10_000
				if operators {
					steps = 1_000
				}
				run(steps)
				if n := len(ts.ExistingTensors) - tensors; n != 0 {
					t.Errorf("%d more tensors", n)
				}
				if n := len(ts.ExistingScalars) - scalars; n != 0 {
					t.Errorf("%d more scalars", n)
				}
				if grown := residentKB(t) - memory; grown > 4096 && !raceEnabled {
					t.Errorf("%d KB more memory", grown)
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
