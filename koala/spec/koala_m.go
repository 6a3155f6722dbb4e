package spec

import (
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// KoalaM is KOALA-M (Davtyan et al., AAAI 2022): the hidden state is the weights w
// and their velocities v, with one 2 x 2 covariance P for every such pair.
//
//	predict:  w <- w + v,  v <- a v
//	          P <- F P F^T + diag(qw, qv),  F = (1 1; 0 a)
//	update:   S = P00 |h|^2 + R,  h = g + wd w
//	          w <- w - lr P00 (L/S) h,  v <- v - lr P10 (L/S) h
//	          P <- P - P e0 e0^T P |h|^2/S  for the largest |h|
//
// qw follows how far the weights move from their running average m, which is
// updated as m <- 0.9 m + 0.1 w: qw <- 0.9 qw + 0.1 sqrt(sum |m-w|^2)/N.
//
// A step saves two passes over the memory: velocity_factor holds the velocities'
// factor a until the next pass that writes them, and the pass that writes m and w
// also sums |m-w|^2.
//
// The default qv gives the velocity four fifths of the movement (README.md).
var KoalaM = register(Kind{
	Name: "koala-m", Rank: 2, Filter: true, Moves: true,
	About: "Kalman filter over weights and velocities with their 2 x 2 covariance (Davtyan et al. 2022)",
	Hyper: append([]setting.Declaration{
		lr(byFamily(0.1, 0.03)), weightDecay(always(0)), clip(always(0)),
		hyper("sw", "initial variance of the weights", setting.Positive, always(0.1)),
		hyper("sc", "initial covariance of weights and velocity; sc^2 is at most sw sv", setting.AnyReal, always(0)),
		hyper("sv", "initial variance of the velocity", setting.Natural, always(0.1)),
		hyper("a", "share of the velocity that is left after a step", setting.Fraction, always(0.9)),
		hyper("qw", "variance added to the weights each step, at the start", setting.Natural, always(0.01)),
		hyper("qv", "variance added to the velocity each step", setting.Natural, byFamily(100, 3)),
		hidden(hyper("float32_scalars", "round the four numbers to float32 that the authors' code rounds", setting.Bool{}, always(false))),
	}, filterSettings()...),
	Published: setting.Values{"lr": 1, "qv": 0.01},
	Check: func(v setting.Values) []setting.Problem {
		sc, sw, sv := v.Float("sc"), v.Float("sw"), v.Float("sv")
		if sc*sc <= sw*sv {
			return nil
		}
		return []setting.Problem{{
			Keys: []string{"sc", "sw", "sv"},
			Text: fmt.Sprintf("sc %v is no covariance of variances sw %v and sv %v: its square must be at most their product", sc, sw, sv),
		}}
	},
	New: func(v setting.Values) Rule {
		o := &koalaM{filter: newFilter(v, 1), qw: v.Float("qw"), qv: v.Float("qv"), factor: 1, rounded: v.Bool("float32_scalars")}
		o.p00, o.p01, o.p11, o.a = o.round(v.Float("sw")), o.round(v.Float("sc")), o.round(v.Float("sv")), o.round(v.Float("a"))
		return o
	},
})

type koalaM struct {
	filter
	p00, p01, p11 float64
	a, qw, qv     float64
	factor        float64 // pending factor of the stored velocities
	rounded       bool
}

// unknown marks the distance |m-w|^2 of a tensor that the last update skipped.
const unknown = -1

func (o *koalaM) State() State {
	return State{
		Scalars: []Scalar{
			{Key: "p00", At: &o.p00, Open: true}, {Key: "p01", At: &o.p01, Min: Lowest}, {Key: "p11", At: &o.p11},
			{Key: "qw", At: &o.qw}, {Key: "velocity_factor", At: &o.factor}, o.noiseState(),
		},
		Tensors: []TensorState{{Name: "velocity"}, {Name: "average"}},
		Numbers: []ParamNumber{{Name: "distance", Start: unknown, Min: unknown}},
		Check: func(scalar func(string) float64) error {
			if p00, p01, p11 := scalar("p00"), scalar("p01"), scalar("p11"); p01*p01 > p00*p11*(1+1e-9) {
				return fmt.Errorf("p01 is %v: expected p01^2 <= p00 p11 = %v", p01, p00*p11)
			}
			return nil
		},
	}
}

func (o *koalaM) Predict(st *Step) {
	var left []*Param // by the last update
	for _, p := range st.Params {
		if p.Numbers["distance"] < 0 {
			left = append(left, p)
		}
	}
	distance.Run(st, left, nil)
	for _, p := range left {
		p.Numbers["distance"] = p.Sums["distance"]
	}
	away, n := 0.0, 0.0
	for _, p := range st.Params {
		away += p.Numbers["distance"]
		n += float64(p.Count)
		p.Numbers["distance"] = unknown
	}
	move.Run(st, st.Params, func(*Param) moveArgs { return moveArgs{Factor: o.factor} })
	o.factor *= o.a
	if finite(away) && n > 0 {
		o.qw = 0.9*o.qw + 0.1*math.Sqrt(away)/n
	}
	o.propagate()
}

// propagate is P <- F P F^T + diag(qw, qv).
func (o *koalaM) propagate() {
	o.p00 = max(minSigma, o.p00+2*o.p01+o.p11) + o.round(o.qw)
	o.p01 = o.a * (o.p01 + o.p11)
	o.p11 = o.a*o.a*o.p11 + o.round(o.qv)
}

func (o *koalaM) Update(st *Step) {
	o.begin(st)
	r := o.noise(st)
	args := func(p *Param) koalaMArgs {
		n2 := st.normSquare(p)
		c := st.Rate(p) * o.innovationOf(st, p) / (o.p00*n2 + r)
		o.took(st, p, n2, o.p00*c)
		return koalaMArgs{
			Clip: st.Clip, Decay: p.WeightDecay,
			WeightStep: o.p00 * c, VelocityKeep: o.factor, VelocityStep: o.p01 * c,
			AverageKeep: 0.9, AverageRest: 0.1,
		}
	}
	velocity.Run(st, st.Params, args)
	st.Machine.Each(st.Skipped, func(p *Param) { p.State["velocity"].ScaleInPlace(o.factor) })
	o.factor = 1
	for _, p := range st.Params {
		p.Numbers["distance"] = p.Sums["distance"]
	}
	st.Info.Gain = o.p00 * o.steepest / (o.p00*o.steepest + r)
	o.condition(o.steepest, r)
	st.Info.Sigma = o.p00
}

// condition takes the measurement along a gradient with |h|^2 = n2 into P. With
// S = P00 n2 + R, P00 - P00^2 n2/S is P00 R/S, and P11 - P01^2 n2/S is
// (P11 R + n2 det P)/S: sums of numbers that are not negative, so that P stays
// positive semidefinite.
func (o *koalaM) condition(n2, r float64) {
	if o.rounded {
		h := o.round(n2 / (o.p00*n2 + r))
		o.p00, o.p01, o.p11 = o.p00-h*o.p00*o.p00, o.p01-h*o.p00*o.p01, o.p11-h*o.p01*o.p01
		return
	}
	s := o.p00*n2 + r
	det := max(0, o.p00*o.p11-o.p01*o.p01)
	o.p11 = o.p11*(r/s) + det*(n2/s)
	o.p01 *= r / s
	o.p00 = max(minSigma, o.p00*(r/s))
}

func (o *koalaM) round(v float64) float64 {
	if o.rounded {
		return float64(float32(v))
	}
	return v
}

// distance sums |average - p|^2.
var distance = pass[noArgs]{
	kernel: "koala_m_distance",
	sums:   func(p *Param, _ noArgs) Sums { return awayFromAverage(p) },
}

func awayFromAverage(p *Param) Sums {
	away := p.State["average"].Sub(p.Value)
	return Sums{"distance": away.Dot(away)}
}

// moveArgs are the arguments of p += factor velocity.
type moveArgs struct{ Factor float64 }

var move = pass[moveArgs]{
	kernel:    "koala_m_predict",
	operators: func(p *Param, a moveArgs) { p.Value.AddInPlace(p.State["velocity"].Scale(a.Factor)) },
}

type koalaMArgs struct {
	Clip, Decay                            float64 // h = clip g + decay p
	WeightStep, VelocityKeep, VelocityStep float64
	AverageKeep, AverageRest               float64
}

var velocity = pass[koalaMArgs]{
	kernel: "koala_m",
	operators: func(p *Param, a koalaMArgs) {
		w, v, m := p.Value, p.State["velocity"], p.State["average"]
		h := p.Gradient.Mix(a.Clip, w, a.Decay)
		w.AddInPlace(h.Scale(-a.WeightStep))
		v.ScaleInPlace(a.VelocityKeep)
		v.AddInPlace(h.Scale(-a.VelocityStep))
		m.ScaleInPlace(a.AverageKeep)
		m.AddInPlace(w.Scale(a.AverageRest))
	},
	sums: func(p *Param, _ koalaMArgs) Sums { return awayFromAverage(p) },
}
