package koala

import (
	"fmt"
	"math"
	"testing"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// TestTorch compares the baselines with PyTorch's own optimizers
// (testdata/record_torch.py).
func TestTorch(t *testing.T) {
	var (
		inputs oracleInputs
		file   struct {
			Cases []struct {
				Variant, DType, Inputs string
				Hyper                  struct {
					LR          float64
					WeightDecay float64 `json:"weight_decay"`
					Momentum    float64
					Nesterov    bool
					Betas       []float64
					Eps         float64
					Lambd       float64
					Alpha       float64
					T0          int64
				}
				Steps []oracleStep
			}
		}
	)
	if !readOracle(t, "testdata/oracle/inputs.json", &inputs) || !readOracle(t, "testdata/torch.json", &file) {
		t.Fatal("the recordings are missing")
	}
	for i, c := range file.Cases {
		t.Run(fmt.Sprintf("%s/%s/%s/%d", c.Variant, c.DType, c.Inputs, i), func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				h := c.Hyper
				kind, err := spec.Lookup(c.Variant)
				if err != nil {
					t.Fatal(err)
				}
				o := setting.Values{"lr": h.LR}
				switch kind {
				case spec.SGD:
					o["momentum"], o["nesterov"] = h.Momentum, h.Nesterov
				case spec.ASGD:
					o["lambda"], o["average_from"] = h.Lambd, h.T0
					if h.Alpha != 0 {
						o["alpha"] = h.Alpha
					}
				}
				if h.Betas != nil {
					o["beta1"], o["beta2"], o["eps"] = h.Betas[0], h.Betas[1], h.Eps
				}
				oc := oracleCase{Variant: c.Variant, DType: c.DType}
				tol := oc.tolerances(false)
				if kind == spec.ASGD { // PyTorch keeps eta and mu in float32
					tol = tolerances{params: max(tol.params, 1e-6), floor: 1}
				}
				params := make([]*ts.Tensor, len(inputs.Shapes))
				for i, shape := range inputs.Shapes {
					params[i] = newParam(t, oc.dtype(), inputs.Init[i], shape...)
				}
				opt := newOptimizer(t, kind, []Group{{Params: Params(params...), WeightDecay: h.WeightDecay}}, o)
				useOperators(opt, operators)
				for k, want := range c.Steps {
					in := inputs.Sets[c.Inputs][k]
					for i, p := range params {
						setGrad(t, p, in.Grads[i])
					}
					if _, err := opt.Update(Measurement{Loss: in.Loss}); err != nil {
						t.Fatal(err)
					}
					compareAll(t, k, "parameters", params, want.Params, tol)
					compareState(t, opt, k, "average", want.Avg, tol)
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}

// NT-ASGD's trigger, compared with its definition (Merity et al. 2018, Algorithm 1).
func TestAveragingStarts(t *testing.T) {
	const nonmono = 3
	losses := []float64{5, 4, 3, 4, 2.9, 2.8, 3.5, 3.2, 2.9, 2.9, 2.7}
	o := defaults(spec.ASGD)
	o["nonmono"] = nonmono
	p := one(t)
	opt := newOptimizer(t, spec.ASGD, []Group{{Params: Params(p)}}, o)
	var seen []float64
	want := -1
	for i, v := range losses {
		if want < 0 && len(seen) > nonmono {
			best := math.Inf(1)
			for _, past := range seen[:len(seen)-nonmono] {
				best = min(best, past)
			}
			if v > best {
				want = i
			}
		}
		seen = append(seen, v)
		setGrad(t, p, []float64{1, 0, -1})
		if _, err := opt.Update(Measurement{Loss: v}); err != nil {
			t.Fatal(err)
		}
		if started := opt.Observe(v); started != (i == want) {
			t.Errorf("after loss %d: started is %v, want %v", i, started, i == want)
		}
		if averaging := want >= 0 && i > want; opt.Averaging() != averaging {
			t.Errorf("after loss %d: averaging is %v", i, !averaging)
		}
	}
	if want < 0 {
		t.Fatal("the losses never trigger")
	}
}

func TestSwapExchanges(t *testing.T) {
	o := defaults(spec.ASGD)
	o["average_from"] = 0
	p := one(t)
	opt := newOptimizer(t, spec.ASGD, []Group{{Params: Params(p)}}, o)
	mean, steps := make([]float64, 3), 4
	for k := range steps {
		setGrad(t, p, []float64{1, 2, -1})
		if _, err := opt.Update(Measurement{Loss: 1}); err != nil {
			t.Fatal(err)
		}
		for i, v := range valuesOf(t, p) {
			if k > 0 { // PyTorch's average leaves out the first step
				mean[i] += v / float64(steps-1)
			}
		}
	}
	last := valuesOf(t, p)
	if err := opt.Swap(); err != nil {
		t.Fatal(err)
	}
	if e := worst(valuesOf(t, p), mean, 1); e > 1e-6 {
		t.Errorf("the average is off by %.2g", e)
	}
	if _, err := opt.Update(Measurement{Loss: 1}); err == nil {
		t.Error("a step on the average is taken")
	}
	if err := opt.Swap(); err != nil {
		t.Fatal(err)
	}
	if e := worst(valuesOf(t, p), last, 1); e != 0 {
		t.Errorf("the parameters come back off by %v", e)
	}
}
