package spec

import (
	"fmt"
	"math"
	"slices"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// ASGD is averaged gradient descent (Polyak and Juditsky, 1992) as PyTorch has it:
// with h = g + wd p, in step n,
//
//	eta = lr/(1 + lambda lr (n-1))^alpha
//	p <- (1 - lambda eta) p - eta h
//	average <- average + (p - average)/max(1, n-1-t0)
//
// NT-ASGD (Merity, Keskar, Socher 2018) has lambda 0, and its t0 is the step at
// which validation stops improving, which Observe detects. The average takes no
// memory and no time before t0. n counts, for each parameter, the steps in which it
// had a gradient.
var ASGD = register(Kind{
	Name: "asgd", Rank: 23, Averages: true,
	About: "gradient descent with averaged weights (Polyak and Juditsky 1992), triggered as in AWD-LSTM (Merity et al. 2018)",
	Hyper: []setting.Declaration{
		lr(byFamily(30, 1)), weightDecay(always(1.2e-6)), usualClip(),
		hyper("nonmono", "evaluations without a new best before the weights are averaged (NT-ASGD)", setting.AtLeast(1), always(5)),
		hidden(hyper("lambda", "decay of the weights and, by the power alpha, of the learning rate", setting.Natural, always(0))),
		hidden(hyper("alpha", "that power", setting.Natural, always(0.75))),
		hidden(hyper("average_from", "steps before averaging, PyTorch's t0; -1 waits for Observe", setting.Int{Min: -1, Max: math.MaxInt64}, always(-1))),
	},
	Published: setting.Values{"lr": 0.1, "weight_decay": 0, "clip": 0},
	New: func(v setting.Values) Rule {
		return &asgd{lambda: v.Float("lambda"), alpha: v.Float("alpha"), from: v.Int("average_from"), recent: make([]float64, v.Int("nonmono"))}
	},
})

type asgd struct {
	baseline
	lambda, alpha float64
	steps, from   int64 // from is t0, -1 before it is known

	// The validation losses of Observe: the best of all but the last len(recent),
	// which are in recent, losses counting round it.
	recent   []float64
	best     float64
	observed int64
}

func (o *asgd) State() State {
	s := State{
		Scalars: []Scalar{{Key: "best", At: &o.best, Min: Lowest}},
		Ints: []Int{
			{Key: "steps", At: &o.steps, Max: math.MaxInt64}, {Key: "average_from", At: &o.from, Min: -1, Max: math.MaxInt64},
			{Key: "observed", At: &o.observed, Max: math.MaxInt64},
		},
		Tensors: []TensorState{{Name: "average", Optional: true}},
		Numbers: []ParamNumber{steps},
		Average: "average",
	}
	for i := range o.recent {
		s.Scalars = append(s.Scalars, Scalar{Key: fmt.Sprintf("recent%d", i), At: &o.recent[i], Min: Lowest})
	}
	return s
}

func (o *asgd) Update(st *Step) {
	averaging := o.from >= 0 && o.steps >= o.from
	o.steps++
	eta := func(p *Param) (eta, n float64) {
		n = p.Numbers["step"] // steps before this one
		p.Numbers["step"]++
		lr := st.Rate(p)
		return lr / math.Pow(1+o.lambda*lr*n, o.alpha), n
	}
	if averaging {
		for _, p := range slices.Concat(st.Params, st.Skipped) {
			if p.State["average"] == nil {
				st.Machine.Create(p, "average", p.Value)
			}
		}
		averagedStep.Run(st, st.Params, func(p *Param) averagedArgs {
			eta, n := eta(p)
			return averagedArgs{Clip: st.Clip, Decay: p.WeightDecay, Keep: 1 - o.lambda*eta, Rate: eta, Share: 1 / max(1, n-float64(o.from))}
		})
	} else {
		descent.Run(st, st.Params, func(p *Param) descentArgs {
			eta, _ := eta(p)
			return descentArgs{Rate: eta * st.Clip, Keep: 1 - o.lambda*eta - eta*p.WeightDecay}
		})
	}
	st.Info.EffectiveLR = st.LR / math.Pow(1+o.lambda*st.LR*float64(o.steps-1), o.alpha)
}

func (o *asgd) Observe(validationLoss float64) (averagingStarts bool) {
	window := int64(len(o.recent))
	if window == 0 || math.IsNaN(validationLoss) {
		return false
	}
	if o.from < 0 && o.observed > window && validationLoss > o.best {
		o.from, averagingStarts = o.steps, true
	}
	slot := &o.recent[o.observed%window]
	switch {
	case o.observed == window:
		o.best = *slot
	case o.observed > window:
		o.best = min(o.best, *slot)
	}
	*slot = max(Lowest, min(validationLoss, Largest))
	o.observed++
	return averagingStarts
}

type averagedArgs struct {
	Clip, Decay float64 // d = clip g + decay p
	Keep, Rate  float64 // p = keep p - rate d
	Share       float64 // average += share (p - average)
}

var averagedStep = pass[averagedArgs]{
	kernel: "asgd",
	operators: func(p *Param, a averagedArgs) {
		average := p.State["average"]
		d := p.Gradient.Mix(a.Clip, p.Value, a.Decay)
		p.Value.ScaleInPlace(a.Keep)
		p.Value.AddInPlace(d.Scale(-a.Rate))
		average.AddInPlace(p.Value.Sub(average).Scale(a.Share))
	},
}
