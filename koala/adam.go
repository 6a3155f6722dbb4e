package koala

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// adam is Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019) as
// PyTorch has them:
//
//	m = beta1 m + (1 - beta1) h,  v = beta2 v + (1 - beta2) h^2
//	p <- p - lr m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + eps)
//
// with h = g + wd p; AdamW has h = g and first scales p by 1 - lr wd.
type adam struct {
	base
	beta1, beta2, eps float64
	decoupled         bool
}

const lastStep = 0 // t, of each parameter its own: it counts where there was a gradient

func newAdam(b base, o Options) (Optimizer, error) {
	f := &adam{base: b, beta1: o.Beta1, beta2: o.Beta2, eps: o.Eps, decoupled: b.kind == KindAdamW}
	return f, f.allocate(2)
}

var adamFields = fields{a: "mean", b: "square", last: [3]lastField{lastStep: {"step", 0}}, squares: true}

func (o *adam) State() (State, error) { return o.save(adamFields) }

func (o *adam) Restore(s State) error { return o.restore(s, adamFields) }

func (o *adam) Update(m Measurement) (StepInfo, error) {
	return o.update(m, squareSums, func(st *step) {
		if !st.squaresFit() {
			return
		}
		for _, l := range st.lanes {
			l.last[lastStep]++
			lr, decay, keep := st.rate(l), l.decay, 1.0
			if o.decoupled {
				decay, keep = 0, 1-lr*l.decay
			}
			c1, c2 := corrections(o.beta1, o.beta2, l.last[lastStep])
			l.K = [8]float64{st.scale, decay, 1 - o.beta1, o.beta2, keep, lr / c1, 1 / math.Sqrt(c2), o.eps}
		}
		st.run(scaled)
		st.info.EffectiveLR = st.LR()
	})
}

// corrections returns the shares of running means from 0 that are filled after t
// steps.
func corrections(beta1, beta2, t float64) (c1, c2 float64) {
	return 1 - math.Pow(beta1, t), 1 - math.Pow(beta2, t)
}

// scaled is h = k0 g + k1 p; a += k2 (h - a); b = k3 b + (1 - k3) h^2;
// p = k4 p - k5 a/(k6 sqrt(b) + k7).
var scaled = pass{
	kernel: torch.KernelScaled,
	operators: func(s *torch.Scope, l *lane) {
		h := decayed(s, l)
		s.AddInPlace(l.A, s.Scale(s.Sub(h, l.A), l.K[2]))
		s.ScaleInPlace(l.B, l.K[3])
		s.AddInPlace(l.B, s.Scale(s.Square(h), 1-l.K[3]))
		s.ScaleInPlace(l.P, l.K[4])
		s.AddInPlace(l.P, s.Scale(s.Div(l.A, s.Shift(s.Scale(s.Sqrt(l.B), l.K[6]), l.K[7])), -l.K[5]))
	},
}
