package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// KoalaPP is KOALA++ (NeurIPS 2025, Algorithm 1): it does not hold the covariance P
// of the weights but follows v = P h, its product with the gradient h = g + wd w,
// which suffices for a step. With h0, v, S0 of the tensor's last step,
//
//	alpha  = h.h0/|h0|^2                       h's share along h0
//	lambda = (h.v + q h.h0)/S0                 what the last measurement took away
//	w      = h.v/|h0|^2 - (h.h0)(h0.v)/|h0|^4  makes P symmetric; 0 in the asymmetric form
//	v <- (alpha - lambda) v + q (h - lambda h0) + w h0
//	S  = v.h + q |h|^2 + R
//	weights <- weights - lr (L/S) (v + q h)
//
// v starts as sigma h. All inner products with the new v follow from the ones with
// the old, so that a step sums once and writes once.
//
// h.v + q |h|^2 is the predicted variance along h. No covariance has a negative
// one: if the approximation gives one, the tensor's filter starts again.
var KoalaPP = register(Kind{
	Name: "koala++", Rank: 3, Filter: true,
	About: "Kalman filter that follows the product of the covariance with the gradient (KOALA++, NeurIPS 2025)",
	Hyper: append([]setting.Declaration{
		lr(always(1)), weightDecay(always(0)), usualClip(),
		hyper("sigma", "initial variance of the parameters", setting.Positive, always(0.1)),
		hyper("q", "variance added each step; the step grows with it", setting.Natural, byFamily(100, 1)),
		hyper("symmetric", "the symmetric form, as in the paper's Algorithm 1", setting.Bool{}, always(true)),
	}, filterSettings()...),
	Published: setting.Values{"q": 0.1, "clip": 0},
	New: func(v setting.Values) Rule {
		return &koalaPP{filter: newFilter(v, 1), sigma: v.Float("sigma"), q: v.Float("q"), symmetric: v.Bool("symmetric")}
	},
})

type koalaPP struct {
	filter
	sigma, q  float64
	symmetric bool
}

// State's "s" is a tensor's S of its last step, 0 before the first, "square" |h|^2
// and "along" h.v.
func (o *koalaPP) State() State {
	return State{
		Scalars: []Scalar{o.noiseState()},
		Tensors: []TensorState{{Name: "covariance"}, {Name: "gradient"}},
		Numbers: []ParamNumber{{Name: "s"}, {Name: "square"}, {Name: "along", Min: Lowest}},
	}
}

// Measure adds g.v and g.h0, and with weight decay p.v and p.h0.
func (o *koalaPP) Measure(st *Step) {
	if st.anyDecay() {
		allProducts.Run(st, st.Params, nil)
	} else {
		products.Run(st, st.Params, nil)
	}
}

func (o *koalaPP) Update(st *Step) {
	o.begin(st)
	r := o.noise(st)
	variance, square := 0.0, 0.0
	covariance.Run(st, st.Params, func(p *Param) koalaPPArgs {
		hh, hv, parts := o.propagate(st, p, r)
		along := hv + o.q*hh
		s := along + r
		rate := st.Rate(p) * o.innovationOf(st, p) / s
		p.Numbers["s"], p.Numbers["square"], p.Numbers["along"] = s, hh, hv

		st.Info.Gain = max(st.Info.Gain, along/s)
		variance += along
		square += hh
		if hh > 0 {
			o.took(st, p, hh, rate*along/hh)
		}
		return koalaPPArgs{
			Clip: st.Clip, Decay: p.WeightDecay,
			OfCovariance: parts.v, OfGradient: parts.h, OfLast: parts.h0, Rate: rate, Q: o.q,
		}
	})
	if square > 0 {
		st.Info.Sigma = variance / square
	}
}

// parts are the coefficients of the new v in the old v, h and h0.
type parts struct{ v, h, h0 float64 }

// propagate returns |h|^2, h.v for the new v, and the new v's parts.
func (o *koalaPP) propagate(st *Step, p *Param, r float64) (hh, hv float64, next parts) {
	hh = st.normSquare(p)
	if s0, square0, along0 := p.Numbers["s"], p.Numbers["square"], p.Numbers["along"]; s0 > 0 {
		c, wd := st.Clip, p.WeightDecay
		oldHV, hh0 := c*p.Sums["gv"]+wd*p.Sums["pv"], c*p.Sums["gh"]+wd*p.Sums["ph"]
		alpha, lambda := hh0/square0, (oldHV+o.q*hh0)/s0
		w := 0.0
		if o.symmetric {
			w = oldHV/square0 - hh0/square0*(along0/square0)
		}
		next = parts{v: alpha - lambda, h: o.q, h0: w - o.q*lambda}
		hv = next.v*oldHV + next.h*hh + next.h0*hh0
		if hv+o.q*hh >= 0 && next.representable() && finite(hv) {
			return hh, hv, next
		}
	}
	// The first step is one from h0 = h, v = sigma h.
	lambda := (o.sigma + o.q) * hh / ((o.sigma+o.q)*hh + r)
	next = parts{h: (1 - lambda) * (o.sigma + o.q)}
	return hh, next.h * hh, next
}

// representable reports whether float32 can hold the coefficients.
func (c parts) representable() bool {
	for _, v := range []float64{c.v, c.h, c.h0} {
		if !(math.Abs(v) < math.MaxFloat32) {
			return false
		}
	}
	return true
}

// products sums |g|^2, g.v and g.h0.
var products = pass[noArgs]{
	kernel: "koala_pp_products",
	sums: func(p *Param, _ noArgs) Sums {
		g, v, h0 := p.Gradient, p.State["covariance"], p.State["gradient"]
		return Sums{"gg": g.Dot(g), "gv": g.Dot(v), "gh": g.Dot(h0)}
	},
}

// allProducts sums the same, and g.p, |p|^2, p.v and p.h0.
var allProducts = pass[noArgs]{
	kernel: "koala_pp_all_products",
	sums: func(p *Param, _ noArgs) Sums {
		g, w, v, h0 := p.Gradient, p.Value, p.State["covariance"], p.State["gradient"]
		return Sums{
			"gg": g.Dot(g), "gp": g.Dot(w), "pp": w.Dot(w),
			"gv": g.Dot(v), "gh": g.Dot(h0), "pv": w.Dot(v), "ph": w.Dot(h0),
		}
	},
}

type koalaPPArgs struct {
	Clip, Decay                      float64 // h = clip g + decay p
	OfCovariance, OfGradient, OfLast float64 // v's parts in v, h and h0
	Rate, Q                          float64 // of p -= rate (v + q h)
}

var covariance = pass[koalaPPArgs]{
	kernel: "koala_pp",
	operators: func(p *Param, a koalaPPArgs) {
		v, h0 := p.State["covariance"], p.State["gradient"]
		h := p.Gradient.Mix(a.Clip, p.Value, a.Decay)
		v.ScaleInPlace(a.OfCovariance)
		v.AddInPlace(h.Mix(a.OfGradient, h0, a.OfLast))
		p.Value.AddInPlace(h.Mix(a.Q, v, 1).Scale(-a.Rate))
		h0.Set(h)
	},
}
