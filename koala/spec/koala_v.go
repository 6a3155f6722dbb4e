package spec

import "github.com/koala-lm/koala-lm/internal/setting"

// KoalaV is KOALA-V (Davtyan et al., AAAI 2022): the weights w are a random walk
// with covariance sigma I, and the loss L(w) is a measurement of its target 0 with
// variance R. Linearised at w with gradient g the extended Kalman filter is
//
//	predict:  sigma <- sigma + q
//	update:   S = sigma |g|^2 + R
//	          w <- w - lr (sigma/S) L g
//	          sigma <- sigma - sigma^2 |g|^2/S = sigma R/S
//
// with one S for each tensor and one sigma for all, which follows the largest
// |g|^2. The last form has no difference of near numbers: sigma stays positive.
//
// With weight decay wd, a tensor's loss is L + wd/2 |w|^2 and its norm |g + wd w|,
// but the step is along g unless decay_in_step is set.
//
// The authors' q of 1 was found on images. It is too timid for recurrent models;
// 10 diverges on Transformers.
var KoalaV = register(Kind{
	Name: "koala-v", Rank: 1, Filter: true,
	About: "Kalman filter over the loss with one variance for all weights (Davtyan et al. 2022)",
	Hyper: append([]setting.Declaration{
		lr(byFamily(1, 0.3)), weightDecay(always(0)), clip(always(0)),
		hyper("sigma", "initial variance of the parameters", setting.Positive, always(0.1)),
		hyper("q", "variance added each step; the step grows with its root", setting.Natural, byFamily(10, 1)),
	}, append(filterSettings(), decayInStep())...),
	Published: setting.Values{"lr": 1, "q": 1, "clip": 0},
	New: func(v setting.Values) Rule {
		return &koalaV{filter: newFilter(v, 1), sigma: v.Float("sigma"), q: v.Float("q"), decayInStep: v.Bool("decay_in_step")}
	},
})

func decayInStep() setting.Declaration {
	d := hyper("decay_in_step", "step along g + weight_decay p, not g", setting.Bool{}, always(false))
	d.Idle = []setting.Idle{withoutDecay}
	d.Idle[0].Means = setting.Amounts(always(false))
	return d
}

type koalaV struct {
	filter
	sigma, q    float64
	decayInStep bool
}

func (o *koalaV) State() State {
	return State{Scalars: []Scalar{{Key: "sigma", At: &o.sigma, Open: true}, o.noiseState()}}
}

func (o *koalaV) Predict(*Step) { o.sigma += o.q }

func (o *koalaV) Update(st *Step) {
	o.begin(st)
	r := o.noise(st)
	descent.Run(st, st.Params, func(p *Param) descentArgs {
		n2 := st.normSquare(p)
		rate := st.Rate(p) * o.innovationOf(st, p) * o.sigma / (o.sigma*n2 + r)
		o.took(st, p, n2, rate)
		keep := 1.0
		if o.decayInStep {
			keep = 1 - rate*p.WeightDecay
		}
		return descentArgs{Rate: rate * st.Clip, Keep: keep}
	})
	st.Info.Gain = o.sigma * o.steepest / (o.sigma*o.steepest + r)
	o.sigma = condition(o.sigma, o.steepest, r)
	st.Info.Sigma = o.sigma
}
