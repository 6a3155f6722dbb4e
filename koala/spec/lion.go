package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// Lion is EvoLved Sign Momentum (Chen et al. 2023, Symbolic Discovery of
// Optimization Algorithms, Program 1):
//
//	c = beta1 m + (1 - beta1) g
//	p <- p - lr (sign(c) + wd p)
//	m <- beta2 m + (1 - beta2) g
//
// Every step moves each weight by lr, so that lr is a third to a tenth of Adam's,
// and wd larger by the same factor.
var Lion = register(Kind{
	Name: "lion", Rank: 24, DecoupledDecay: true,
	About: "sign of the momentum looked ahead (Chen et al. 2023)",
	Hyper: []setting.Declaration{
		lr(always(3e-4)), weightDecay(always(0.1)), usualClip(),
		share("beta1", "memory of the gradient's mean", always(0.9)),
		share("beta2", "memory of the momentum", always(0.99)),
	},
	Published: setting.Values{"lr": 1e-4, "weight_decay": 0, "clip": 0},
	Temporary: copies(4),
	New:       func(v setting.Values) Rule { return &lion{beta1: v.Float("beta1"), beta2: v.Float("beta2")} },
})

type lion struct {
	baseline
	beta1, beta2 float64
}

func (*lion) State() State { return State{Tensors: []TensorState{{Name: "momentum"}}} }

func (o *lion) Update(st *Step) {
	st.Each(func(p *Param) {
		lr, g, m := st.Rate(p), st.ClippedGradient(p), p.State["momentum"]
		c := m.Mix(o.beta1, g, 1-o.beta1)
		p.Value.Set(p.Value.Mix(1-lr*p.WeightDecay, c.Sign(), -lr))
		m.Set(m.Mix(o.beta2, g, 1-o.beta2))
	})
	st.Info.EffectiveLR = st.LR
}
