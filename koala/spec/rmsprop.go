package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// RMSprop is Hinton's lecture of 2012 as PyTorch has it: with h = g + wd p,
//
//	v = beta2 v + (1 - beta2) h^2,  d = h/(sqrt(v) + eps)
//	p <- p - lr d,  or with momentum  b = momentum b + d,  p <- p - lr b
//
// With centered, the root is sqrt(v - m^2), where m is the running mean of h: v -
// m^2 estimates the gradient's variance.
var RMSprop = register(Kind{
	Name: "rmsprop", Rank: 26,
	About: "gradient over the root of its mean square (Hinton 2012), as PyTorch",
	Hyper: []setting.Declaration{
		lr(byFamily(0.002, 0.001)), weightDecay(always(0)), usualClip(),
		share("beta2", "memory of the gradient's mean square", always(0.99)),
		share("momentum", "share of the last step's direction that is kept", always(0)),
		hyper("centered", "divide by the root of the variance, not of the mean square", setting.Bool{}, always(false)),
		eps(1e-8),
	},
	Published: setting.Values{"lr": 0.01, "clip": 0},
	Temporary: copies(4),
	New: func(v setting.Values) Rule {
		return &rmsprop{beta2: v.Float("beta2"), momentum: v.Float("momentum"), eps: v.Float("eps"), centered: v.Bool("centered")}
	},
})

type rmsprop struct {
	baseline
	beta2, momentum, eps float64
	centered             bool
}

func (o *rmsprop) State() State {
	s := State{Tensors: []TensorState{{Name: "square", Squares: true}}}
	if o.centered {
		s.Tensors = append(s.Tensors, TensorState{Name: "mean"})
	}
	if o.momentum > 0 {
		s.Tensors = append(s.Tensors, TensorState{Name: "momentum"})
	}
	return s
}

func (o *rmsprop) Update(st *Step) {
	st.Each(func(p *Param) {
		h, v := st.Decayed(p), p.State["square"]
		v.Set(v.Mix(o.beta2, h.Square(), 1-o.beta2))
		variance := Tensor(v)
		if o.centered {
			m := p.State["mean"]
			m.Set(m.Mix(o.beta2, h, 1-o.beta2))
			variance = v.Sub(m.Square()).AtLeast(0)
		}
		d := h.Div(variance.Sqrt().Shift(o.eps))
		if o.momentum > 0 {
			b := p.State["momentum"]
			b.Set(b.Mix(o.momentum, d, 1))
			d = b
		}
		p.Value.AddInPlace(d.Scale(-st.Rate(p)))
	})
	st.Info.EffectiveLR = st.LR
}
