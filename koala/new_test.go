package koala

import (
	"errors"
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

func one(t *testing.T) *ts.Tensor { return newParam(t, gotch.Float, []float64{1, 2, 3}, 3) }

func TestNewRefuses(t *testing.T) {
	p := one(t)
	var ints, view *ts.Tensor
	err := torch.Do(func(s *torch.Scope) error {
		ints = s.Keep(torch.FromSlice(s, []int64{1}, 1))
		view = s.Keep(s.Reshape(s.Detach(p), 3, 1))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ints.Drop()
	defer view.Drop()
	groups := func(params ...*ts.Tensor) []Group { return []Group{{Params: Params(params...)}} }
	for name, c := range map[string]struct {
		kind   *spec.Kind
		groups []Group
		o      setting.Values
		want   string
	}{
		"no parameters": {spec.KoalaV, nil, defaults(spec.KoalaV), "optimizer koala-v: there are no parameters"},
		"an empty list": {spec.KoalaV, groups(), defaults(spec.KoalaV), "optimizer koala-v: there are no parameters"},
		"nil":           {spec.KoalaV, groups(p, nil), defaults(spec.KoalaV), "optimizer koala-v: parameter p1: the tensor is nil or undefined"},
		"integers":      {spec.KoalaV, groups(ints), defaults(spec.KoalaV), "optimizer koala-v: parameter p0: int64[1]: expected a floating point type"},
		"shared memory": {spec.KoalaV, groups(p, view), defaults(spec.KoalaV), "optimizer koala-v: parameter p1 shares memory with parameter p0 without being the same tensor"},
		"parts":         {spec.KoalaV, []Group{{Params: []Param{{Tensor: p, Parts: []int64{1, 1}}}}}, nil, "optimizer koala-v: parameter p0: float32[3]: parts [1 1] along dimension 0 are not the whole of it"},
		"one name":      {spec.KoalaV, []Group{{Params: []Param{{Tensor: p, Name: "a"}, {Tensor: one(t), Name: "a"}}}}, defaults(spec.KoalaV), `optimizer koala-v: two parameters have the name "a"`},
		"group lr":      {spec.KoalaV, []Group{{Params: Params(p), LR: -1}}, defaults(spec.KoalaV), "optimizer koala-v: group 0: LR is -1: expected a positive number, or 0 for 1"},
		"group decay":   {spec.KoalaV, []Group{{Params: Params(p), WeightDecay: math.NaN()}}, defaults(spec.KoalaV), "optimizer koala-v: group 0: WeightDecay is NaN: expected 0 or a positive number"},
		"all at once": {spec.KoalaV, groups(p), setting.Values{"lr": -1, "sigma": 0, "q": math.Inf(1), "alpha_r": 1, "beta1": 0.9},
			"optimizer koala-v: alpha_r is 1: it must be a number of at least 0 and less than 1; beta1 is not a setting of it; " +
				"lr is -1: it must be a number greater than 0; q is +Inf: it must be a number of at least 0; sigma is 0: it must be a number greater than 0"},
		"covariance": {spec.KoalaM, groups(p), setting.Values{"sc": 1}, "optimizer koala-m: sc 1 is no covariance of variances sw 0.1 and sv 0.1: its square must be at most their product"},
		"nesterov":   {spec.SGD, groups(p), setting.Values{"nesterov": true}, "optimizer sgd: nesterov needs a momentum: set optimizer.momentum, such as 0.9"},
		"beta":       {spec.Adam, groups(p), setting.Values{"beta2": 1}, "optimizer adam: beta2 is 1: it must be a number of at least 0 and less than 1"},
		"clip":       {spec.KoalaD, groups(p), setting.Values{"clip": -1}, "optimizer koala-d: clip is -1: it must be a number of at least 0"},
	} {
		t.Run(name, func(t *testing.T) {
			opt, err := New(c.kind, c.o, c.groups)
			if err == nil {
				opt.Close()
				t.Fatalf("no error, want %s", c.want)
			}
			if err.Error() != c.want {
				t.Errorf("error\n%s\nwant\n%s", err, c.want)
			}
		})
	}
}

func TestPhases(t *testing.T) {
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			p := one(t)
			setGrad(t, p, []float64{1, 0, 1})
			opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, defaults(kind))
			filter := kind.Filter
			m := Measurement{Loss: 1, MeanSquare: 1}
			if _, err := opt.Update(m); errors.Is(err, ErrPhase) != filter {
				t.Errorf("update without predict: %v", err)
			}
			if err := opt.Predict(); err != nil {
				t.Fatal(err)
			}
			if err := opt.Predict(); errors.Is(err, ErrPhase) != filter {
				t.Errorf("predict twice: %v", err)
			}
			if filter {
				if _, err := opt.Update(Measurement{Loss: 1, MeanSquare: -1}); err == nil {
					t.Error("a negative MeanSquare is taken")
				}
			}
			if _, err := opt.Update(m); err != nil {
				t.Errorf("update after predict: %v", err)
			}
			if _, err := opt.Update(m); errors.Is(err, ErrPhase) != filter {
				t.Errorf("update twice: %v", err)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			p := one(t)
			setGrad(t, p, []float64{1, 0, 1})
			opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, optionsFor(kind))
			state := stateOf(t, opt)
			if err := opt.Close(); err != nil {
				t.Fatal(err)
			}
			if err := opt.Close(); err != nil {
				t.Errorf("closed twice: %v", err)
			}
			_ = opt.Predict()
			if _, err := opt.Update(Measurement{Loss: 1, MeanSquare: 1}); err == nil {
				t.Error("a closed optimizer takes a step")
			}
			if _, err := opt.State(); err == nil {
				t.Error("a closed optimizer has a state")
			}
			if err := opt.Restore(state); err == nil {
				t.Error("a closed optimizer takes a state")
			}
		})
	}
}

// A tensor that is in two groups, or twice in one, moves once.
func TestTiedParametersCountOnce(t *testing.T) {
	p, alone := one(t), one(t)
	tied := newOptimizer(t, spec.KoalaM, []Group{{Params: Params(p, p), WeightDecay: 0.1}, {Params: Params(p), LR: 5}}, defaults(spec.KoalaM))
	single := newOptimizer(t, spec.KoalaM, []Group{{Params: Params(alone), WeightDecay: 0.1}}, defaults(spec.KoalaM))
	if n := len(tied.Params()); n != 1 {
		t.Fatalf("%d parameters", n)
	}
	for range 5 {
		for _, x := range []struct {
			p   *ts.Tensor
			opt Optimizer
		}{{p, tied}, {alone, single}} {
			setGrad(t, x.p, []float64{1, -1, 0.5})
			if err := x.opt.Predict(); err != nil {
				t.Fatal(err)
			}
			if _, err := x.opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if e := worst(valuesOf(t, p), valuesOf(t, alone), 1); e != 0 {
		t.Errorf("off by %v", e)
	}
}

func TestZeroGradReleases(t *testing.T) {
	p := one(t)
	setGrad(t, p, []float64{1, 1, 1})
	opt := newOptimizer(t, spec.KoalaV, []Group{{Params: Params(p)}}, defaults(spec.KoalaV))
	if err := opt.ZeroGrad(); err != nil {
		t.Fatal(err)
	}
	if torch.HasGrad(p) {
		t.Error("the gradient is still there")
	}
}

// Clipping equals a step with clipped gradients.
func TestClip(t *testing.T) {
	for _, kind := range spec.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				o := defaults(kind)
				const limit = 0.5
				grads := [][]float64{{3, -4, 12}, {0.1, 0.2, 0.3}, {-1, 0, 2}}
				run := func(o setting.Values, prescale bool) []float64 {
					p := newParam(t, gotch.Double, []float64{1, 2, 3}, 3)
					opt := newOptimizer(t, kind, []Group{{Params: Params(p), WeightDecay: 0.01}}, o)
					useOperators(opt, operators)
					for _, g := range grads {
						norm := math.Sqrt(g[0]*g[0] + g[1]*g[1] + g[2]*g[2])
						in := append([]float64{}, g...)
						if prescale && norm > limit {
							scaleTo(limit, in)
						}
						if err := opt.Predict(); err != nil {
							t.Fatal(err)
						}
						setGrad(t, p, in)
						info, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5})
						if err != nil {
							t.Fatal(err)
						}
						if !prescale && math.Abs(info.GradNorm-norm) > 1e-12*norm {
							t.Errorf("norm %v, want %v", info.GradNorm, norm)
						}
					}
					return valuesOf(t, p)
				}
				want := run(o, true)
				o["clip"] = float64(limit)
				if e := worst(run(o, false), want, 1e-3); e > 1e-12 {
					t.Errorf("off by %.2g", e)
				}
			})
		})
	}
}
