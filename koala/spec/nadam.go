package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// NAdam is Adam with Nesterov's momentum (Dozat, 2016) as PyTorch has it: with
// h = g + wd p, in step t,
//
//	mu_t = beta1 (1 - 0.96^(t momentum_decay)/2)
//	m = beta1 m + (1 - beta1) h,  v = beta2 v + (1 - beta2) h^2
//	d = mu_(t+1) m/(1 - mu_1 ... mu_(t+1)) + (1 - mu_t) h/(1 - mu_1 ... mu_t)
//	p <- p - lr d/(sqrt(v/(1 - beta2^t)) + eps)
//
// Decoupled, h = g and p first shrinks by the factor 1 - lr wd.
var NAdam = register(Kind{
	Name: "nadam", Rank: 25,
	About: "Adam with Nesterov's momentum (Dozat 2016), as PyTorch",
	Hyper: append([]setting.Declaration{
		lr(byFamily(0.002, 0.001)), weightDecay(always(0)), usualClip(),
		hyper("momentum_decay", "how fast the momentum reaches beta1", setting.Natural, always(0.004)),
		hidden(hyper("decoupled_weight_decay", "shrink the parameters apart from the gradient", setting.Bool{}, always(false))),
	}, adamSettings()...),
	Published: setting.Values{"lr": 2e-3, "clip": 0},
	Temporary: copies(4),
	New: func(v setting.Values) Rule {
		return &nadam{
			beta1: v.Float("beta1"), beta2: v.Float("beta2"), eps: v.Float("eps"),
			momentumDecay: v.Float("momentum_decay"), decoupled: v.Bool("decoupled_weight_decay"),
		}
	},
})

type nadam struct {
	baseline
	beta1, beta2, eps, momentumDecay float64
	decoupled                        bool
}

// State's "mu_product" is mu_1 ... mu_t.
func (*nadam) State() State {
	return State{
		Tensors: []TensorState{{Name: "mean"}, {Name: "square", Squares: true}},
		Numbers: []ParamNumber{steps, {Name: "mu_product", Start: 1, Max: 1}},
	}
}

func (o *nadam) mu(t float64) float64 {
	return o.beta1 * (1 - 0.5*math.Pow(0.96, t*o.momentumDecay))
}

func (o *nadam) Update(st *Step) {
	st.Each(func(p *Param) {
		rate, h := st.Rate(p), st.Decayed(p)
		if o.decoupled {
			h = st.ClippedGradient(p)
			p.Value.ScaleInPlace(1 - rate*p.WeightDecay)
		}
		p.Numbers["step"]++
		t := p.Numbers["step"]
		mu, next := o.mu(t), o.mu(t+1)
		p.Numbers["mu_product"] *= mu
		product := p.Numbers["mu_product"]

		m, v := p.State["mean"], p.State["square"]
		m.Set(m.Mix(o.beta1, h, 1-o.beta1))
		v.Set(v.Mix(o.beta2, h.Square(), 1-o.beta2))
		_, c2 := corrections(o.beta1, o.beta2, t)
		d := m.Mix(next/(1-product*next), h, (1-mu)/(1-product))
		p.Value.AddInPlace(d.Div(v.Scale(1 / c2).Sqrt().Shift(o.eps)).Scale(-rate))
	})
	st.Info.EffectiveLR = st.LR
}
