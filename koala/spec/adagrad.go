package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// Adagrad is Duchi, Hazan and Singer (2011) as PyTorch has it: with h = g + wd p,
// in step t,
//
//	v = v + h^2
//	p <- p - lr/(1 + lr_decay (t - 1)) h/(sqrt(v) + eps)
//
// v starts at initial_accumulator_value.
var Adagrad = register(Kind{
	Name: "adagrad", Rank: 27,
	About: "gradient over the root of the sum of its squares (Duchi et al. 2011), as PyTorch",
	Hyper: []setting.Declaration{
		lr(byFamily(0.02, 0.01)), weightDecay(always(0)), usualClip(), eps(1e-10),
		hidden(hyper("lr_decay", "fall of the learning rate with the steps", setting.Natural, always(0))),
		hidden(hyper("initial_accumulator_value", "sum of squares at the start", setting.Natural, always(0))),
	},
	Published: setting.Values{"lr": 0.01, "clip": 0},
	Temporary: copies(3),
	New: func(v setting.Values) Rule {
		return &adagrad{eps: v.Float("eps"), lrDecay: v.Float("lr_decay"), start: v.Float("initial_accumulator_value")}
	},
})

type adagrad struct {
	baseline
	eps, lrDecay, start float64
}

func (o *adagrad) State() State {
	return State{
		Tensors: []TensorState{{Name: "square", Squares: true, Start: func(_ *Param, t Tensor) { t.FillInPlace(o.start) }}},
		Numbers: []ParamNumber{steps},
	}
}

func (o *adagrad) Update(st *Step) {
	st.Each(func(p *Param) {
		h, v := st.Decayed(p), p.State["square"]
		v.AddInPlace(h.Square())
		rate := st.Rate(p) / (1 + o.lrDecay*p.Numbers["step"])
		p.Numbers["step"]++
		p.Value.AddInPlace(h.Div(v.Sqrt().Shift(o.eps)).Scale(-rate))
	})
	st.Info.EffectiveLR = st.LR
}
