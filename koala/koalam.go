package koala

import (
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// koalaM is KOALA-M: the hidden state is the weights w and their velocities v,
// with one 2 x 2 covariance P for every such pair.
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
// A step saves two passes over the memory: the velocities' factor a waits in
// pending until they are written anyway, and |m-w|^2 comes with the pass that
// writes both.
type koalaM struct {
	base
	noise
	p00, p01, p11 float64
	a, qw, qv     float64
	pending       float64 // what the stored velocities are yet to be multiplied by
	rounded       bool    // Options.Float32Scalars
}

// The numbers of a parameter's last step.
const lastDistance = 0 // |m - w|^2, or unknown

const unknown = -1

func newKoalaM(b base, o Options) (Optimizer, error) {
	f := &koalaM{base: b, noise: newNoise(o), p00: o.SW, p01: o.SC, p11: o.SV, a: o.A, qw: o.QW, qv: o.QV, pending: 1, rounded: o.Float32Scalars}
	f.p00, f.p01, f.p11, f.a = f.round(f.p00), f.round(f.p01), f.round(f.p11), f.round(f.a)
	for _, p := range f.params {
		p.last[lastDistance] = unknown
	}
	return f, f.allocate(2)
}

func (o *koalaM) fields() fields {
	return fields{
		scalars: []scalarField{
			{key: "p00", at: &o.p00, over: true}, {key: "p01", at: &o.p01, min: lowest}, {key: "p11", at: &o.p11},
			{key: "qw", at: &o.qw}, {key: "velocity_factor", at: &o.pending}, o.noise.field(),
		},
		a: "velocity", b: "average", last: [3]lastField{lastDistance: {"distance", unknown}},
		check: func(s State) error {
			if p00, p01, p11 := s.Scalars["p00"], s.Scalars["p01"], s.Scalars["p11"]; p01*p01 > p00*p11*(1+1e-9) {
				return fmt.Errorf("p01 is %v: expected p01^2 <= p00 p11 = %v", p01, p00*p11)
			}
			return nil
		},
	}
}

func (o *koalaM) State() (State, error) { return o.save(o.fields()) }

func (o *koalaM) Restore(s State) error { return o.restore(s, o.fields()) }

func (o *koalaM) Predict() error {
	return o.predict(func(st *step) {
		all := st.all()
		for _, l := range all {
			if l.last[lastDistance] < 0 { // the last update left the tensor out
				st.lanes = append(st.lanes, l)
			}
		}
		st.run(distance)
		for _, l := range st.lanes {
			l.last[lastDistance] = l.Sum[0]
		}
		away, n := 0.0, 0.0
		for _, l := range all {
			away += l.last[lastDistance]
			n += float64(l.count)
			l.last[lastDistance] = unknown
			l.K[0] = o.pending
		}
		st.lanes = all
		st.run(shift)
		o.pending *= o.a
		if finite(away) && n > 0 {
			o.qw = 0.9*o.qw + 0.1*math.Sqrt(away)/n
		}
		o.propagate()
	})
}

// propagate is P <- F P F^T + diag(qw, qv).
func (o *koalaM) propagate() {
	o.p00 = max(minSigma, o.p00+2*o.p01+o.p11) + o.round(o.qw)
	o.p01 = o.a * (o.p01 + o.p11)
	o.p11 = o.a*o.a*o.p11 + o.round(o.qv)
}

func (o *koalaM) Update(m Measurement) (StepInfo, error) {
	return o.updateFilter(m, gradientSums, func(st *step) {
		st.dropFlat()
		r := o.measure(m.LossVar)
		for _, l := range st.lanes {
			n2 := st.normSquare(l)
			c := st.rate(l) * st.lossOf(l) / (o.p00*n2 + r)
			l.K = [8]float64{st.scale, l.decay, o.p00 * c, o.pending, o.p01 * c, 0.9, 0.1}
			st.note(l, n2, o.p00*c)
		}
		for _, p := range st.idle {
			st.scope.ScaleInPlace(p.a, o.pending)
		}
		st.run(velocity)
		o.pending = 1
		for _, l := range st.lanes {
			l.last[lastDistance] = l.Sum[0]
		}
		st.info.Gain = o.p00 * st.steepest / (o.p00*st.steepest + r)
		o.condition(st.steepest, r)
		st.info.Sigma, st.info.R = o.p00, r
	})
}

// condition takes the measurement along a gradient with |h|^2 = n2 into P. With
// S = P00 n2 + R, P00 - P00^2 n2/S is P00 R/S, and P11 - P01^2 n2/S is
// (P11 R + n2 det P)/S: sums of what is not negative, so that P stays positive
// semidefinite.
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

// distance is |b - p|^2.
var distance = pass{
	kernel: torch.KernelDistance,
	sums: func(s *torch.Scope, l *lane) sumTensors {
		away := s.Sub(l.B, l.P)
		return sumTensors{dot(s, away, away)}
	},
}

// shift is p += k0 a.
var shift = pass{
	kernel: torch.KernelShift,
	operators: func(s *torch.Scope, l *lane) {
		s.AddInPlace(l.P, s.Scale(l.A, l.K[0]))
	},
}

// velocity is d = k0 g + k1 p; p -= k2 d; a = k3 a - k4 d; b = k5 b + k6 p; and
// then |b - p|^2.
var velocity = pass{
	kernel: torch.KernelVelocity,
	operators: func(s *torch.Scope, l *lane) {
		d := decayed(s, l)
		s.AddInPlace(l.P, s.Scale(d, -l.K[2]))
		s.ScaleInPlace(l.A, l.K[3])
		s.AddInPlace(l.A, s.Scale(d, -l.K[4]))
		s.ScaleInPlace(l.B, l.K[5])
		s.AddInPlace(l.B, s.Scale(l.P, l.K[6]))
	},
	sums: distance.sums,
}
