package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// KoalaD is KOALA-D, this project's own method: the filter of KOALA-V with the
// diagonal covariance P = sigma D in place of sigma I, so that weights with rare or
// small gradients have their share of the step.
//
//	D = diag(1/(sqrt(v) + eps)),  v the bias-corrected running mean of g^2
//
// The extended Kalman filter for the measurement L(w) of 0 with variance R is
//
//	S = g.P g + R = sigma n2 + R,  n2 = g.D g over all tensors
//	w <- w - lr P g L/S = w - lr (sigma L/S) D g
//	P <- P - P g g^T P/S
//
// The new P is no multiple of D. Of the multiples sigma' D the one with the same
// variance along g, g.P g, has
//
//	sigma' = (sigma n2 - sigma^2 n2^2/S)/n2 = sigma R/S
//
// which is KOALA-V's recursion; with D = 1 this is KOALA-V with one S for all
// tensors. For the direction g the step takes its bias-corrected running mean m,
// the filter's estimate of the gradient of the expected loss; n2 keeps g, whose
// noise the measurement has. R starts as the first mean square: no other value is
// better founded. Weight decay is decoupled, because the measured loss does not
// contain it: w also shrinks by the factor 1 - lr (sigma L/S) wd.
//
// The equations leave the settings open; study/koala-d.md has the trials.
var KoalaD = register(Kind{
	Name: "koala-d", Rank: 4, Filter: true, DecoupledDecay: true,
	About: "Kalman filter with a diagonal covariance from the gradients' mean squares (this project's own)",
	Hyper: append([]setting.Declaration{
		lr(byFamily(10, 1)), weightDecay(always(0)), usualClip(),
		hyper("sigma", "initial variance of the parameters", setting.Positive, always(0.01)),
		hyper("q", "variance added each step; the step grows with its root", setting.Natural, always(1e-3)),
		share("beta1", "memory of the gradient's mean", always(0.9)),
		share("beta2", "memory of the gradient's mean square", byFamily(0.999, 0.99)),
		eps(1e-8),
	}, filterSettings()...),
	Published: setting.Values{"lr": 1, "beta2": 0.99, "clip": 0},
	New:       func(v setting.Values) Rule { return newKoalaD(v) },
})

func newKoalaD(v setting.Values) *koalaD {
	return &koalaD{
		filter: newFilter(v, 0), sigma: v.Float("sigma"), q: v.Float("q"),
		beta1: v.Float("beta1"), beta2: v.Float("beta2"), eps: v.Float("eps"),
	}
}

type koalaD struct {
	filter
	sigma, q          float64
	beta1, beta2, eps float64
}

func (o *koalaD) State() State {
	return State{
		Scalars: []Scalar{{Key: "sigma", At: &o.sigma, Open: true}, o.noiseState()},
		Tensors: []TensorState{{Name: "mean"}, {Name: "square", Squares: true}},
		Numbers: []ParamNumber{steps},
	}
}

func (o *koalaD) Predict(*Step) { o.sigma += o.q }

// Measure sums g.D g too, unless clipping has to be known first.
func (o *koalaD) Measure(st *Step) {
	if st.MayClip {
		squares.Run(st, st.Params, nil)
	} else {
		o.scaledNorms(st, st.Params)
	}
}

func (o *koalaD) Update(st *Step) {
	if st.MayClip {
		o.scaledNorms(st, st.Params)
	}
	o.begin(st)
	r := o.noise(st)
	n2 := 0.0
	for _, p := range st.Params {
		n2 += p.Sums["gdg"]
	}
	s := o.sigma*n2 + r
	step := st.LR * o.innovation(st) * o.sigma / s
	o.stepDiagonal(st, st.Params, step)
	st.Info.Gain, st.Info.EffectiveLR = o.sigma*n2/s, math.Abs(step)
	o.sigma = condition(o.sigma, n2, r)
	st.Info.Sigma = o.sigma
}

// scaledNorms returns the sum of h.D h over params for the clipped gradients h.
func (o *koalaD) scaledNorms(st *Step, params []*Param) float64 {
	adamNorm.Run(st, params, func(p *Param) adamNormArgs {
		_, c2 := corrections(o.beta1, o.beta2, p.Numbers["step"]+1)
		return adamNormArgs{Clip: st.Clip, Beta2: o.beta2, Beta2Rest: 1 - o.beta2, Correction: 1 / c2, Eps: o.eps}
	})
	n2 := 0.0
	for _, p := range params {
		n2 += p.Sums["gdg"]
	}
	return n2
}

// stepDiagonal moves params by step D m.
func (o *koalaD) stepDiagonal(st *Step, params []*Param, step float64) {
	adamStep.Run(st, params, func(p *Param) adamArgs {
		p.Numbers["step"]++
		c1, c2 := corrections(o.beta1, o.beta2, p.Numbers["step"])
		rate := step * p.LR
		return adamArgs{
			Clip: st.Clip, Beta1Rest: 1 - o.beta1, Beta2: o.beta2,
			Keep: 1 - rate*p.WeightDecay, Rate: rate / c1, RootCorrection: 1 / math.Sqrt(c2), Eps: o.eps,
		}
	})
}

type adamNormArgs struct{ Clip, Beta2, Beta2Rest, Correction, Eps float64 }

// adamNorm has D = 1/(sqrt(correction v) + eps), v being the mean square that
// adamStep will write.
var adamNorm = pass[adamNormArgs]{
	kernel: "adam_norm",
	sums: func(p *Param, a adamNormArgs) Sums {
		h := p.Gradient.Scale(a.Clip)
		v := p.State["square"].Mix(a.Beta2, h.Square(), a.Beta2Rest)
		d := v.Scale(a.Correction).Sqrt().Shift(a.Eps)
		return Sums{"gg": p.Gradient.Dot(p.Gradient), "gdg": h.Dot(h.Div(d))}
	},
}
