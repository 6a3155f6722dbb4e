package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Adam is Adam (Kingma and Ba, 2015) as PyTorch has it:
//
//	m = beta1 m + (1 - beta1) h,  v = beta2 v + (1 - beta2) h^2
//	p <- p - lr m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + eps)
//
// with h = g + wd p.
var Adam = register(Kind{
	Name: "adam", Rank: 21,
	About:     "steps scaled by the root of the gradient's mean square (Kingma and Ba 2015), as PyTorch",
	Hyper:     append([]setting.Declaration{lr(byFamily(0.002, 0.001)), weightDecay(always(0)), usualClip()}, adamSettings()...),
	Published: setting.Values{"lr": 1e-3, "clip": 0},
	New:       func(v setting.Values) Rule { return newAdam(v, false) },
})

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter, 2019): h = g,
// and p first shrinks by the factor 1 - lr wd.
var AdamW = register(Kind{
	Name: "adamw", Rank: 22, DecoupledDecay: true,
	About:     "Adam with decoupled weight decay (Loshchilov and Hutter 2019), as PyTorch",
	Hyper:     append([]setting.Declaration{lr(byFamily(0.002, 0.001)), weightDecay(always(0.01)), usualClip()}, adamSettings()...),
	Published: setting.Values{"lr": 1e-3, "clip": 0},
	New:       func(v setting.Values) Rule { return newAdam(v, true) },
})

func adamSettings() []setting.Declaration {
	return []setting.Declaration{
		share("beta1", "memory of the gradient's mean", always(0.9)),
		share("beta2", "memory of the gradient's mean square", always(0.999)),
		eps(1e-8),
	}
}

type adam struct {
	baseline
	beta1, beta2, eps float64
	decoupled         bool
}

func newAdam(v setting.Values, decoupled bool) *adam {
	return &adam{beta1: v.Float("beta1"), beta2: v.Float("beta2"), eps: v.Float("eps"), decoupled: decoupled}
}

func (*adam) State() State {
	return State{
		Tensors: []TensorState{{Name: "mean"}, {Name: "square", Squares: true}},
		Numbers: []ParamNumber{steps},
	}
}

func (o *adam) Update(st *Step) {
	o.step(st, st.Params)
	st.Info.EffectiveLR = st.LR
}

func (o *adam) step(st *Step, params []*Param) {
	adamStep.Run(st, params, func(p *Param) adamArgs {
		p.Numbers["step"]++
		lr, decay, keep := st.Rate(p), p.WeightDecay, 1.0
		if o.decoupled {
			decay, keep = 0, 1-lr*p.WeightDecay
		}
		c1, c2 := corrections(o.beta1, o.beta2, p.Numbers["step"])
		return adamArgs{
			Clip: st.Clip, Decay: decay, Beta1Rest: 1 - o.beta1, Beta2: o.beta2,
			Keep: keep, Rate: lr / c1, RootCorrection: 1 / math.Sqrt(c2), Eps: o.eps,
		}
	})
}

type adamArgs struct {
	Clip, Decay               float64 // h = clip g + decay p
	Beta1Rest, Beta2          float64 // m += beta1_rest (h - m), v = beta2 v + (1 - beta2) h^2
	Keep                      float64 // p = keep p - rate m / (root_correction sqrt(v) + eps)
	Rate, RootCorrection, Eps float64
}

var adamStep = pass[adamArgs]{
	kernel: "adam",
	operators: func(p *Param, a adamArgs) {
		m, v := p.State["mean"], p.State["square"]
		h := p.Gradient.Mix(a.Clip, p.Value, a.Decay)
		m.AddInPlace(h.Sub(m).Scale(a.Beta1Rest))
		v.ScaleInPlace(a.Beta2)
		v.AddInPlace(h.Square().Scale(1 - a.Beta2))
		p.Value.ScaleInPlace(a.Keep)
		p.Value.AddInPlace(m.Div(v.Sqrt().Scale(a.RootCorrection).Shift(a.Eps)).Scale(-a.Rate))
	},
}
