package koala

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
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
	groups := func(params ...*ts.Tensor) []Group { return []Group{{Params: params}} }
	with := func(kind string, change func(o *Options)) Options {
		o := Defaults(kind)
		change(&o)
		return o
	}
	for name, c := range map[string]struct {
		kind   string
		groups []Group
		o      Options
		want   string
	}{
		"kind":          {"sdg", groups(p), Options{LR: 1}, `optimizer "sdg": expected one of koala-v, koala-m, koala++, koala-d, sgd, adam, adamw, asgd`},
		"no parameters": {KindV, nil, Defaults(KindV), "optimizer koala-v: there are no parameters"},
		"an empty list": {KindV, groups(), Defaults(KindV), "optimizer koala-v: there are no parameters"},
		"nil":           {KindV, groups(p, nil), Defaults(KindV), "optimizer koala-v: parameter p1: the tensor is nil or undefined"},
		"integers":      {KindV, groups(ints), Defaults(KindV), "optimizer koala-v: parameter p0: int64[1]: expected a floating point type"},
		"shared memory": {KindV, groups(p, view), Defaults(KindV), "optimizer koala-v: parameter p1 shares memory with parameter p0 without being the same tensor"},
		"names":         {KindV, []Group{{Params: []*ts.Tensor{p}, Names: []string{"a", "b"}}}, Defaults(KindV), "optimizer koala-v: group 0: 2 names for 1 parameters"},
		"one name":      {KindV, []Group{{Params: []*ts.Tensor{p, one(t)}, Names: []string{"a", "a"}}}, Defaults(KindV), `optimizer koala-v: two parameters have the name "a"`},
		"group lr":      {KindV, []Group{{Params: []*ts.Tensor{p}, LR: -1}}, Defaults(KindV), "optimizer koala-v: group 0: LR is -1: expected a positive number, or 0 for 1"},
		"group decay":   {KindV, []Group{{Params: []*ts.Tensor{p}, WeightDecay: math.NaN()}}, Defaults(KindV), "optimizer koala-v: group 0: WeightDecay is NaN: expected 0 or a positive number"},
		"all at once": {KindV, groups(p), Options{LR: -1, Q: math.Inf(1), AlphaR: 1},
			"optimizer koala-v: LR is -1: expected a positive number; Sigma is 0: expected a positive number; Q is +Inf: expected 0 or a positive number; AlphaR is 1: expected a number in [0, 1)"},
		"covariance": {KindM, groups(p), with(KindM, func(o *Options) { o.SC = 1 }), "optimizer koala-m: SC is 1: expected SC^2 <= SW SV"},
		"nesterov":   {KindSGD, groups(p), with(KindSGD, func(o *Options) { o.Nesterov = true }), "optimizer sgd: Nesterov: expected a Momentum above 0 with it"},
		"beta":       {KindAdam, groups(p), with(KindAdam, func(o *Options) { o.Beta2 = 1 }), "optimizer adam: Beta2 is 1: expected a number in [0, 1)"},
		"clip":       {KindD, groups(p), with(KindD, func(o *Options) { o.Clip = -1 }), "optimizer koala-d: Clip is -1: expected 0 or a positive number"},
	} {
		t.Run(name, func(t *testing.T) {
			opt, err := New(c.kind, c.groups, c.o)
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
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			p := one(t)
			setGrad(t, p, []float64{1, 0, 1})
			opt := newOptimizer(t, kind, []Group{{Params: []*ts.Tensor{p}}}, Defaults(kind))
			filter := strings.HasPrefix(kind, "koala")
			m := Measurement{Loss: 1, LossVar: 1}
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
				if _, err := opt.Update(Measurement{Loss: 1, LossVar: -1}); err == nil {
					t.Error("a negative LossVar is taken")
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
	for _, kind := range Kinds() {
		p := one(t)
		setGrad(t, p, []float64{1, 0, 1})
		opt := newOptimizer(t, kind, []Group{{Params: []*ts.Tensor{p}}}, optionsFor(kind))
		state := stateOf(t, opt)
		if err := opt.Close(); err != nil {
			t.Fatal(err)
		}
		if err := opt.Close(); err != nil {
			t.Errorf("%s: closed twice: %v", kind, err)
		}
		_ = opt.Predict()
		if _, err := opt.Update(Measurement{Loss: 1, LossVar: 1}); err == nil {
			t.Errorf("%s: a closed optimizer takes a step", kind)
		}
		if _, err := opt.State(); err == nil {
			t.Errorf("%s: a closed optimizer has a state", kind)
		}
		if err := opt.Restore(state); err == nil {
			t.Errorf("%s: a closed optimizer takes a state", kind)
		}
	}
}

// A tensor that stands in two groups, or twice in one, moves once.
func TestTiedParametersCountOnce(t *testing.T) {
	p, alone := one(t), one(t)
	tied := newOptimizer(t, KindM, []Group{{Params: []*ts.Tensor{p, p}, WeightDecay: 0.1}, {Params: []*ts.Tensor{p}, LR: 5}}, Defaults(KindM))
	single := newOptimizer(t, KindM, []Group{{Params: []*ts.Tensor{alone}, WeightDecay: 0.1}}, Defaults(KindM))
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
			if _, err := x.opt.Update(Measurement{Loss: 2, LossVar: 5}); err != nil {
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
	opt := newOptimizer(t, KindV, []Group{{Params: []*ts.Tensor{p}}}, Defaults(KindV))
	if err := opt.ZeroGrad(); err != nil {
		t.Fatal(err)
	}
	if torch.HasGrad(p) {
		t.Error("the gradient is still there")
	}
}

// Clipping is the same as handing in gradients that are clipped.
func TestClip(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind, func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) {
				o := Defaults(kind)
				const limit = 0.5
				grads := [][]float64{{3, -4, 12}, {0.1, 0.2, 0.3}, {-1, 0, 2}}
				run := func(o Options, prescale bool) []float64 {
					p := newParam(t, gotch.Double, []float64{1, 2, 3}, 3)
					opt := newOptimizer(t, kind, []Group{{Params: []*ts.Tensor{p}, WeightDecay: 0.01}}, o)
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
						info, err := opt.Update(Measurement{Loss: 2, LossVar: 5})
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
				o.Clip = limit
				if e := worst(run(o, false), want, 1e-3); e > 1e-12 {
					t.Errorf("off by %.2g", e)
				}
			})
		})
	}
}
