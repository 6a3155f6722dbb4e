package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// SGD is gradient descent with momentum as PyTorch has it:
//
//	d = g + wd p
//	b = momentum b + d
//	p <- p - lr b, with Nesterov p - lr (d + momentum b)
var SGD = register(Kind{
	Name: "sgd", Rank: 20,
	About: "gradient descent with momentum, as PyTorch",
	Hyper: []setting.Declaration{
		lr(byFamily(20, 1)), weightDecay(always(0)), usualClip(),
		share("momentum", "share of the last step's direction that is kept", always(0)),
		hyper("nesterov", "look ahead along the momentum", setting.Bool{}, always(false)),
	},
	Published: setting.Values{"lr": 0.1, "clip": 0},
	Check: func(v setting.Values) []setting.Problem {
		if !v.Bool("nesterov") || v.Float("momentum") > 0 {
			return nil
		}
		return []setting.Problem{{Keys: []string{"nesterov", "momentum"}, Text: "nesterov needs a momentum: set optimizer.momentum, such as 0.9"}}
	},
	New: func(v setting.Values) Rule { return &sgd{momentum: v.Float("momentum"), nesterov: v.Bool("nesterov")} },
})

type sgd struct {
	baseline
	momentum float64
	nesterov bool
}

func (o *sgd) State() State {
	if o.momentum == 0 {
		return State{}
	}
	return State{Tensors: []TensorState{{Name: "momentum"}}}
}

func (o *sgd) Update(st *Step) {
	st.Info.EffectiveLR = st.LR
	if o.momentum == 0 {
		descent.Run(st, st.Params, func(p *Param) descentArgs {
			return descentArgs{Rate: st.Rate(p) * st.Clip, Keep: 1 - st.Rate(p)*p.WeightDecay}
		})
		return
	}
	momentumStep.Run(st, st.Params, func(p *Param) momentumArgs {
		a := momentumArgs{Clip: st.Clip, Decay: p.WeightDecay, Momentum: o.momentum, Rate: st.Rate(p)}
		if o.nesterov {
			a.Rate, a.GradientRate = st.Rate(p)*o.momentum, st.Rate(p)
		}
		return a
	})
}

type momentumArgs struct {
	Clip, Decay        float64 // d = clip g + decay p
	Momentum           float64
	Rate, GradientRate float64 // of p -= rate b + gradient_rate d
}

var momentumStep = pass[momentumArgs]{
	kernel: "sgd_momentum",
	operators: func(p *Param, a momentumArgs) {
		b := p.State["momentum"]
		d := p.Gradient.Mix(a.Clip, p.Value, a.Decay)
		b.ScaleInPlace(a.Momentum)
		b.AddInPlace(d)
		p.Value.AddInPlace(b.Mix(-a.Rate, d, -a.GradientRate))
	},
}
