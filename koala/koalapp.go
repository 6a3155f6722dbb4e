package koala

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// koalaPP is KOALA++ (NeurIPS 2025, Algorithm 1): it does not hold the
// covariance P of the weights but follows v = P h, its product with the gradient
// h = g + wd w, which is all that a step needs. With h0, v, S0 those of the
// tensor's last step,
//
//	alpha  = h.h0/|h0|^2                       h's share along h0
//	lambda = (h.v + q h.h0)/S0                 what the last measurement took away
//	w      = h.v/|h0|^2 - (h.h0)(h0.v)/|h0|^4  makes P symmetric; 0 in the asymmetric form
//	v <- (alpha - lambda) v + q (h - lambda h0) + w h0
//	S  = v.h + q |h|^2 + R
//	weights <- weights - lr (L/S) (v + q h)
//
// v starts as sigma h. All inner products with the new v follow from those with
// the old one, so that a step sums once and writes once.
//
// h.v + q |h|^2 is the predicted variance along h. No covariance has a negative
// one: where the approximation gives one, the tensor's filter starts anew.
type koalaPP struct {
	base
	noise
	sigma, q  float64
	symmetric bool
}

// The numbers of a parameter's last step.
const (
	lastS  = 0 // S, 0 before the first step
	lastHH = 1 // |h|^2
	lastHV = 2 // h.v
)

func newKoalaPP(b base, o Options) (Optimizer, error) {
	f := &koalaPP{base: b, noise: newNoise(o), sigma: o.Sigma, q: o.Q, symmetric: o.Symmetric}
	return f, f.allocate(2)
}

func (o *koalaPP) fields() fields {
	return fields{
		scalars: []scalarField{o.noise.field()},
		a:       "covariance", b: "gradient",
		last: [3]lastField{lastS: {"s", 0}, lastHH: {"square", 0}, lastHV: {"along", lowest}},
	}
}

func (o *koalaPP) State() (State, error) { return o.save(o.fields()) }

func (o *koalaPP) Restore(s State) error { return o.restore(s, o.fields()) }

// Predict does nothing: q enters in Update.
func (o *koalaPP) Predict() error { return o.predict(func(*step) {}) }

func (o *koalaPP) Update(m Measurement) (StepInfo, error) {
	return o.updateFilter(m, productSums, func(st *step) {
		st.dropFlat()
		r := o.measure(m.LossVar)
		variance, square := 0.0, 0.0
		for _, l := range st.lanes {
			hh, v, c := o.propagate(st, l, r)
			along := v + o.q*hh
			s := along + r
			rate := st.rate(l) * st.lossOf(l) / s
			l.K = [8]float64{st.scale, l.decay, c[0], c[1], c[2], rate, o.q}
			l.last = [3]float64{lastS: s, lastHH: hh, lastHV: v}

			st.info.Gain = max(st.info.Gain, along/s)
			variance += along
			square += hh
			if hh > 0 {
				st.note(l, hh, rate*along/hh)
			}
		}
		st.run(covariance)
		st.info.R = r
		if square > 0 {
			st.info.Sigma = variance / square
		}
	})
}

// propagate returns |h|^2, h.v for the new v, and v's parts in the old v, h and h0.
func (o *koalaPP) propagate(st *step, l *lane, r float64) (hh, v float64, parts [3]float64) {
	c, wd := st.scale, l.decay
	hh = st.normSquare(l)
	if s0, x, y := l.last[lastS], l.last[lastHH], l.last[lastHV]; s0 > 0 {
		hv, hh0 := c*l.Sum[sumGA]+wd*l.Sum[sumPA], c*l.Sum[sumGB]+wd*l.Sum[sumPB]
		alpha, lambda := hh0/x, (hv+o.q*hh0)/s0
		w := 0.0
		if o.symmetric {
			w = hv/x - hh0/x*(y/x)
		}
		parts = [3]float64{alpha - lambda, o.q, w - o.q*lambda}
		v = parts[0]*hv + parts[1]*hh + parts[2]*hh0
		if v+o.q*hh >= 0 && representable(parts) && finite(v) {
			return hh, v, parts
		}
	}
	// The first step is one from h0 = h, v = sigma h.
	lambda := (o.sigma + o.q) * hh / ((o.sigma+o.q)*hh + r)
	parts = [3]float64{0, (1 - lambda) * (o.sigma + o.q), 0}
	return hh, parts[1] * hh, parts
}

// representable reports whether float32 can hold the coefficients.
func representable(parts [3]float64) bool {
	for _, c := range parts {
		if !(math.Abs(c) < math.MaxFloat32) {
			return false
		}
	}
	return true
}

// productSums is the first pass with the state's share: g.a and g.b, and with
// weight decay p.a and p.b.
func productSums(st *step) {
	if anyDecay(st.params) {
		st.run(allProducts)
	} else {
		st.run(products)
	}
}

var products = pass{
	kernel: torch.KernelProducts,
	sums: func(s *torch.Scope, l *lane) sumTensors {
		return sumTensors{sumGG: dot(s, l.G, l.G), sumGA: dot(s, l.G, l.A), sumGB: dot(s, l.G, l.B)}
	},
}

var allProducts = pass{
	kernel: torch.KernelAllProducts,
	sums: func(s *torch.Scope, l *lane) sumTensors {
		return sumTensors{
			sumGG: dot(s, l.G, l.G), sumGP: dot(s, l.G, l.P), sumPP: dot(s, l.P, l.P),
			sumGA: dot(s, l.G, l.A), sumGB: dot(s, l.G, l.B), sumPA: dot(s, l.P, l.A), sumPB: dot(s, l.P, l.B),
		}
	},
}

// covariance is h = k0 g + k1 p; a = k2 a + k3 h + k4 b; p -= k5 (a + k6 h); b = h.
var covariance = pass{
	kernel: torch.KernelCovariance,
	operators: func(s *torch.Scope, l *lane) {
		h := decayed(s, l)
		s.ScaleInPlace(l.A, l.K[2])
		s.AddInPlace(l.A, mix(s, l.K[3], h, l.K[4], l.B))
		s.AddInPlace(l.P, s.Scale(mix(s, l.K[6], h, 1, l.A), -l.K[5]))
		s.CopyInto(l.B, h)
	},
}
